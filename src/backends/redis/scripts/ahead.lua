-- ARGV: session, queue, key of the place, its fence, limit.
local found = read(ARGV[6])
if not found or found[4] ~= ARGV[7] or found[5] ~= ARGV[4] then
  return answer('gone')
end
return answer('ok', ahead(ARGV[5], ARGV[7], tonumber(ARGV[8])))
