local function below(prefix, last)
  return (string.gsub(prefix, '/', '\0')) .. last
end

-- The keys that a prefix covers, in order.
local function covered(prefix)
  local start = prefix == '' and '' or below(prefix, '\0')
  local ranges = {
    { prefix == '' and '-' or '[' .. start, '(' .. start .. '_quorate' },
    { '[' .. start .. '_quorate\1', prefix == '' and '+' or '(' .. below(prefix, '\1') },
  }
  local keys = {}
  for _, range in ipairs(ranges) do
    local members = call('ZRANGEBYLEX', root .. 'i', range[1], range[2])
    -- One look at all is cheaper than one at each.
    local suspect = string.find(table.concat(members, '\0'), '_quorate', 1, true)
    for _, member in ipairs(members) do
      local hidden = suspect and string.find(member, '_quorate', #start + 1, true)
        and string.find('\0' .. string.sub(member, #start + 1) .. '\0', '\0_quorate\0', 1, true)
      if not hidden then
        keys[#keys + 1] = (string.gsub(member, '%z', '/'))
      end
    end
  end
  return keys
end
