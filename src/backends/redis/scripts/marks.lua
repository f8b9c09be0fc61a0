-- Session, version and fence of what stands at a key, however large it is.
local function marks(key)
  return match(call('GETRANGE', root .. 'e:' .. key, '0', '127'), '^([^ ]+) ([^ ]+) ([^\n]+)\n')
end
