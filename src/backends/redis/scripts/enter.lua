-- ARGV: session, queue, key of the place, value, limit, whether replicas are waited for.
local session, queue, key = ARGV[4], ARGV[5], ARGV[6]
if not lives(session) then
  return answer('lost')
end
local found = read(key)
local fence
if found and found[5] == session then
  fence = found[4]
  if ARGV[9] == '1' then
    -- WAIT asks for the last write of its connection, and the one that made the place may have been on another.
    call('HSET', meta, 'epoch', epoch)
  end
else
  step()
  fence = write(key, ARGV[7], session)
  publish()
end
return answer('ok', fence, ahead(queue, fence, tonumber(ARGV[8])))
