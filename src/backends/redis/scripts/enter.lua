-- ARGV: session, queue, key of the place, value, limit, whether replicas are waited for.
local session, queue, key = ARGV[4], ARGV[5], ARGV[6]
if not lives(session) then
  return { state, 'lost' }
end
local owner, _, fence = marks(key)
if not owner then
  advance()
  fence = rev
  local entry = session .. ' ' .. rev .. ' ' .. rev .. '\n' .. ARGV[7]
  call('MSET', meta, state, root .. 'e:' .. key, entry)
  call('ZADD', root .. 'i', '0', indexed(key))
  call('SADD', root .. 'b:' .. session, key)
  call('ZADD', root .. 'q:' .. queue, rev, key)
  tell(#entry, id .. '\0' .. key .. '\0\0' .. entry, key, entry)
elseif owner == session and ARGV[9] == '1' then
  -- WAIT asks for the last write of its connection, and the one that made the place may have been on another.
  call('SET', meta, state)
end
if not owner or owner == session then
  return { state, 'ok', fence, ahead(queue, fence, ARGV[8]) }
end
