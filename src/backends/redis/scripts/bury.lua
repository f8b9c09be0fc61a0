-- The scripts that keep sessions bury the dead, so that those who watch are told. All others see by themselves who lives.
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- So much is removed by one script of what the dead leave; what is left goes with the next.
local batch = 256

-- Removes a batch of what a dead session leaves; whether that was all.
local function bury(session)
  local left = root .. 'b:' .. session
  if batch > 0 and call('EXISTS', left) == 1 then
    step()
    local keys = call('SPOP', left, batch)
    batch = batch - #keys
    for _, key in ipairs(keys) do
      erase(key)
      local queue = queue_of(key, session)
      if queue then
        also('ZREM', queue, key)
      end
    end
    publish()
  end
  if call('EXISTS', left) == 1 then
    return false
  end
  call('DEL', root .. 's:' .. session)
  call('ZREM', root .. 'd', session)
  return true
end

local function due(session, ttl)
  call('ZADD', root .. 'd', string.format('%.0f', now + ttl + 1), session)
end

for _, session in ipairs(call('ZRANGEBYSCORE', root .. 'd', '-inf', now, 'LIMIT', 0, 8)) do
  if lives(session) then
    local left = call('PTTL', root .. 's:' .. session)
    due(session, left >= 0 and left or 1000)
  elseif not bury(session) then
    break
  end
end
