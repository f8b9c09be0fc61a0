-- ARGV: session or '', how many checks, puts and deletes; checks (kind, key, number); puts (key, bound, value); deletes (key).
local session = ARGV[4]
if session ~= '' and not lives(session) then
  return answer('lost')
end
local at = 8
for nth = 1, tonumber(ARGV[5]) do
  local kind, key, number = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local found = read(key)
  local holds
  if kind == 'absent' then
    holds = not found
  else
    holds = found and found[kind == 'version' and 3 or 4] == number
  end
  if not holds then
    return answer('rejected', nth, found)
  end
  at = at + 3
end
local puts, deletes = tonumber(ARGV[6]), {}
for nth = 1, tonumber(ARGV[7]) do
  local key = ARGV[at + 3 * puts + nth - 1]
  local found = call('HMGET', root .. 'e:' .. key, 'm', 's')
  if found[1] then
    deletes[#deletes + 1] = { key, found[2] }
  end
end
if puts + #deletes == 0 then
  return answer('applied')
end
step()
local fences = {}
for nth = 1, puts do
  fences[nth] = write(ARGV[at], ARGV[at + 2], ARGV[at + 1] == '1' and session)
  at = at + 3
end
for _, gone in ipairs(deletes) do
  erase(gone[1], gone[2])
end
publish()
return answer('applied', unpack(fences))
