-- ARGV: key of the place, its fence.
local key = ARGV[4]
local found = call('HMGET', root .. 'e:' .. key, 'c', 's')
if found[1] ~= ARGV[5] or found[2] and not lives(found[2]) then
  return { epoch, rev, stamp, 'gone' }
end
step()
erase(key, found[2])
publish()
return { epoch, rev, stamp, 'ok' }
