local session = ARGV[4]
call('DEL', root .. 's:' .. session)
alive[session] = false
if bury(session) then
  return { state, 'ok' }
end
call('ZADD', root .. 'd', 0, session)
return { state, 'more' }
