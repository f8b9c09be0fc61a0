-- ARGV: key, value, and what is checked there, if anything: kind and number. A put of one value that is not bound, where none
-- stands that is: most are, and need half of what others do.
local key = ARGV[4]
local at = root .. 'e:' .. key
local owner, version, fence = match(call('GETRANGE', at, '0', '127'), '^([^ ]+) ([^ ]+) ([^\n]+)\n')
if owner and owner ~= '-' then
  return { state, 'bound' }
end
local kind = ARGV[6]
if kind then
  local holds
  if kind == 'absent' then
    holds = not fence
  else
    holds = fence and (kind == 'version' and version or fence) == ARGV[7]
  end
  if not holds then
    return { state, 'rejected', 1, fence and call('GET', at) }
  end
end
advance()
local entry = '- ' .. rev .. ' ' .. (fence or rev) .. '\n' .. ARGV[5]
call('MSET', meta, state, at, entry)
if not fence then
  call('ZADD', root .. 'i', '0', indexed(key))
end
tell(#entry, id .. '\0' .. key .. '\0\0' .. entry, key, entry)
return { state, 'applied', fence or rev }
