-- ARGV: session, queue, key of the place, value, limit, whether replicas are waited for.
local session, queue, key = ARGV[4], ARGV[5], ARGV[6]
if not lives(session) then
  return { epoch, rev, stamp, 'lost' }
end
local found = call('HMGET', root .. 'e:' .. key, 'c', 's')
local fence = found[1]
if not fence or found[2] ~= session then
  step()
  fence = write(key, ARGV[7], session, fence, found[2])
  publish()
elseif ARGV[9] == '1' then
  -- WAIT asks for the last write of its connection, and the one that made the place may have been on another.
  call('HSET', meta, 'epoch', epoch)
end
return { epoch, rev, stamp, 'ok', fence, ahead(queue, fence, tonumber(ARGV[8])) }
