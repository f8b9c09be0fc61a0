-- ARGV: key, value. A put of one value that is not bound, where none stands that is: most are, and need half of what others do.
local key = ARGV[4]
local owner, _, fence = marks(key)
if owner and owner ~= '-' then
  return { state, 'bound' }
end
advance()
local entry = '- ' .. rev .. ' ' .. (fence or rev) .. '\n' .. ARGV[5]
call('MSET', meta, state, root .. 'e:' .. key, entry)
if not fence then
  call('ZADD', root .. 'i', '0', indexed(key))
end
tell(#entry, key, entry)
return { state, 'applied', fence or rev }
