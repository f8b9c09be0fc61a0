-- ARGV: two ranges of the index, each from and to; how many entries are read here at most. Where there are more, only their
-- names are told: to read one takes ten times as long here as with a plain command.
local index = root .. 'i'
local members = call('ZRANGEBYLEX', index, ARGV[4], ARGV[5])
for _, member in ipairs(call('ZRANGEBYLEX', index, ARGV[6], ARGV[7])) do
  members[#members + 1] = member
end
if #members > tonumber(ARGV[8]) then
  return { state, 'many', members }
end
local entries, last = {}, 0
for from = 1, #members, 1000 do
  local paths = {}
  for nth = from, math.min(from + 999, #members) do
    paths[#paths + 1] = root .. 'e:' .. string.gsub(members[nth], '%z', '/')
  end
  for nth, entry in ipairs(call('MGET', unpack(paths))) do
    if entry and (string.byte(entry) == 45 or lives(match(entry, '^[^ ]+'))) then
      entries[last + 1], entries[last + 2] = members[from + nth - 1], entry
      last = last + 2
    end
  end
end
return { state, 'ok', entries }
