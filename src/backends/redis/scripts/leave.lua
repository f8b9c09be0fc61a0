-- ARGV: key of the place, its fence.
local key = ARGV[4]
local owner, _, fence = marks(key)
if fence ~= ARGV[5] or owner ~= '-' and not lives(owner) then
  return { state, 'gone' }
end
step()
if owner ~= '-' then
  unbind(key, owner)
end
erase(key)
publish()
return { state, 'ok' }
