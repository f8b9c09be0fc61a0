-- ARGV: session or '', how many checks, puts and deletes; checks (kind, key, number); puts (key, bound, value); deletes (key).
local session = ARGV[4]
if session ~= '' and not lives(session) then
  return { state, 'lost' }
end
-- What stands at a key before anything is written: session, version, fence.
local rows = {}
local function row(key)
  local found = rows[key]
  if not found then
    found = { marks(key) }
    rows[key] = found
  end
  return found[1], found[2], found[3]
end
local from = 8
for nth = 1, ARGV[5] do
  local kind, key = ARGV[from], ARGV[from + 1]
  local owner, version, fence = row(key)
  local stands = owner and (owner == '-' or lives(owner))
  local holds
  if kind == 'absent' then
    holds = not stands
  else
    holds = stands and (kind == 'version' and version or fence) == ARGV[from + 2]
  end
  if not holds then
    return { state, 'rejected', nth, stands and call('GET', root .. 'e:' .. key) }
  end
  from = from + 3
end
local count, first = tonumber(ARGV[6]), #ARGV - ARGV[7] + 1
local deletes = {}
for nth = first, #ARGV do
  if row(ARGV[nth]) then
    deletes[#deletes + 1] = ARGV[nth]
  end
end
if count + #deletes == 0 then
  return { state, 'applied' }
end
step()
local answer = { state, 'applied' }
for nth = 1, count do
  local key = ARGV[from]
  local owner, _, fence = row(key)
  answer[2 + nth] = write(key, ARGV[from + 2], ARGV[from + 1] == '1' and session or '-', owner, fence)
  from = from + 3
end
for _, key in ipairs(deletes) do
  local owner = row(key)
  if owner ~= '-' then
    unbind(key, owner)
  end
  erase(key)
end
publish(session)
return answer
