-- Session, version and fence of what stands at a key, however large it is.
local function marks(key)
  return string.match(call('GETRANGE', root .. 'e:' .. key, '0', '127'), '^(%S+) (%d+) (%d+)\n')
end
