local entries = {}
for _, key in ipairs(covered(ARGV[4])) do
  local found = call('HMGET', root .. 'e:' .. key, 'v', 'm', 'c', 's')
  local session = found[4]
  if found[2] and (not session or lives(session)) then
    local last = #entries
    entries[last + 1], entries[last + 2], entries[last + 3] = key, found[1], found[2]
    entries[last + 4], entries[last + 5] = found[3], session or ''
  end
end
return { epoch, rev, stamp, 'ok', entries }
