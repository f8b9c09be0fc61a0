-- ARGV: session, queue, key of the place, its fence, limit.
local session, fence = ARGV[4], ARGV[7]
local found = call('HMGET', root .. 'e:' .. ARGV[6], 'c', 's')
if found[1] ~= fence or found[2] ~= session or not lives(session) then
  return { epoch, rev, stamp, 'gone' }
end
return { epoch, rev, stamp, 'ok', ahead(ARGV[5], fence, tonumber(ARGV[8])) }
