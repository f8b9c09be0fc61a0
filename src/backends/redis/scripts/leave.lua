-- ARGV: key of the place, its fence, its queue.
local key = ARGV[4]
local owner, _, fence = marks(key)
if fence ~= ARGV[5] or not lives(owner) then
  return { state, 'gone' }
end
advance()
call('SET', meta, state)
call('DEL', root .. 'e:' .. key)
call('ZREM', root .. 'i', indexed(key))
call('SREM', root .. 'b:' .. owner, key)
call('ZREM', root .. 'q:' .. ARGV[6], key)
tell(#key, id .. '\0' .. key .. '\0\0', key, '')
return { state, 'ok' }
