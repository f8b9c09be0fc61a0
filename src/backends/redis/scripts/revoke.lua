local session = ARGV[4]
call('DEL', root .. 's:' .. session)
alive[session] = false
if bury(session) then
  return { epoch, rev, stamp, 'ok' }
end
call('ZADD', root .. 'd', 0, session)
return { epoch, rev, stamp, 'more' }
