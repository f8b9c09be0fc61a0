local entries = {}
for _, key in ipairs(covered(ARGV[4])) do
  entries[#entries + 1] = read(key)
end
return answer('ok', entries)
