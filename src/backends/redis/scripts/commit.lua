-- ARGV: session or '', how many checks, puts and deletes; checks (kind, key, number); puts (key, bound, value); deletes (key).
local session = ARGV[4]
if session ~= '' and not lives(session) then
  return { epoch, rev, stamp, 'lost' }
end
-- What stands at a key before anything is written: version, fence, session.
local rows = {}
local function row(key)
  local found = rows[key]
  if not found then
    found = call('HMGET', root .. 'e:' .. key, 'm', 'c', 's')
    rows[key] = found
  end
  return found
end
local from = 8
for nth = 1, tonumber(ARGV[5]) do
  local kind, key = ARGV[from], ARGV[from + 1]
  local found = row(key)
  local stands = found[1] and (not found[3] or lives(found[3]))
  local holds
  if kind == 'absent' then
    holds = not stands
  else
    holds = stands and found[kind == 'version' and 1 or 2] == ARGV[from + 2]
  end
  if not holds then
    return { epoch, rev, stamp, 'rejected', nth, read(key) }
  end
  from = from + 3
end
local puts, deletes = tonumber(ARGV[6]), {}
for nth = 1, tonumber(ARGV[7]) do
  local key = ARGV[from + 3 * puts + nth - 1]
  if row(key)[1] then
    deletes[#deletes + 1] = key
  end
end
local answer = { epoch, rev, stamp, 'applied' }
if puts + #deletes == 0 then
  return answer
end
step()
answer[2], answer[3] = rev, stamp
for nth = 1, puts do
  local key = ARGV[from]
  local found = row(key)
  answer[4 + nth] = write(key, ARGV[from + 2], ARGV[from + 1] == '1' and session, found[2], found[3])
  from = from + 3
end
for _, key in ipairs(deletes) do
  erase(key, row(key)[3])
end
publish()
return answer
