-- ARGV: session, queue, key of the place, value, limit, whether replicas are waited for.
local session, queue, key = ARGV[4], ARGV[5], ARGV[6]
if not lives(session) then
  return { state, 'lost' }
end
local owner, _, fence = marks(key)
if owner ~= session then
  step()
  fence = write(key, ARGV[7], session, owner, fence)
  publish(session)
elseif ARGV[9] == '1' then
  -- WAIT asks for the last write of its connection, and the one that made the place may have been on another.
  call('SET', meta, state)
end
return { state, 'ok', fence, ahead(queue, fence, ARGV[8]) }
