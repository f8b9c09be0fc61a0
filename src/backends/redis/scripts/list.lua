local keys, entries, last = covered(ARGV[4]), {}, 0
for from = 1, #keys, 1000 do
  local paths = {}
  for nth = from, math.min(from + 999, #keys) do
    paths[#paths + 1] = root .. 'e:' .. keys[nth]
  end
  for nth, entry in ipairs(call('MGET', unpack(paths))) do
    if entry and (string.byte(entry) == 45 or lives(string.match(entry, '^%S+'))) then
      entries[last + 1], entries[last + 2] = keys[from + nth - 1], entry
      last = last + 2
    end
  end
end
return { state, 'ok', entries }
