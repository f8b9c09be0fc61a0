-- Key, value, version, fence and session of an entry that stands.
local function read(key)
  local found = call('HMGET', root .. 'e:' .. key, 'v', 'm', 'c', 's')
  local session = found[4]
  if found[2] and (not session or lives(session)) then
    return { key, found[1], found[2], found[3], session or '' }
  end
end
