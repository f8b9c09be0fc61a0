-- Stands before every other script. KEYS[1] is `{TAG}:meta`; all other keys are made from it, and lie in its slot.
-- ARGV: the epoch that the caller knows ('' for none), the highest revision it has seen, and a number that nobody else has: the
-- stamp of what is written here, and the name of an epoch to begin if need be.
--
--   {TAG}:meta       hash: epoch, and rev, the revision that was given last, with its stamp
--   {TAG}:e:KEY      hash: v value, m revision of the last write, c revision it was made at, s session it is bound to
--   {TAG}:i          sorted set: every key, with NUL for '/', so that its order is by segments
--   {TAG}:s:SESSION  string with a life: the ttl in ms; the session lives while this is there
--   {TAG}:d          sorted set: sessions by when they end, in ms
--   {TAG}:b:SESSION  set: the keys that are bound to it
--   {TAG}:q:QUEUE    sorted set: the places of a queue by fence
--   {TAG}:w          stream: one entry for every revision, without a gap, under the id REVISION-STAMP
local call = redis.call
local meta = KEYS[1]
local root = string.sub(meta, 1, -5)
local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- The stream holds so many revisions, and fewer if they are large.
local KEPT, KEPT_BYTES = 4096, 16 * 1024 * 1024
-- So much is removed at a time of what the dead leave; what is left goes with the next script.
local BATCH = 256

-- tostring() would lose the last digits.
local function digits(number)
  return string.format('%.0f', number)
end

local known, seen, stamp = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local state = call('HMGET', meta, 'epoch', 'rev', 'stamp')
local epoch, rev, last = state[1], tonumber(state[2] or 0), state[3] or '0'

-- Begins another life of the store. Revisions go on above all that were given: in microseconds the clock is ahead of any that
-- was counted one by one.
local function begin()
  epoch, last = stamp, stamp
  rev = math.max(seen + 1, rev + 1, clock[1] * 1000000 + clock[2])
  call('HSET', meta, 'epoch', epoch, 'rev', digits(rev), 'stamp', stamp)
  call('DEL', root .. 'w')
  call('XADD', root .. 'w', digits(rev) .. '-' .. stamp, 'e', epoch)
end
local function answer(status, ...)
  return { epoch, rev, last, status, ... }
end

-- Nothing is here yet, or what was here is lost.
if not epoch or seen > rev then
  begin()
end
if known ~= '' and known ~= epoch then
  return answer('regressed')
end

local alive = {}
local function lives(session)
  if alive[session] == nil then
    local ours = string.sub(session, 1, #epoch + 1) == epoch .. '.'
    alive[session] = ours and call('EXISTS', root .. 's:' .. session) == 1
  end
  return alive[session]
end

local function indexed(key)
  return (string.gsub(key, '/', '\0'))
end

-- The queue that an entry is a place of, by its name: QUEUE/SESSION-TICKET, bound to that session.
local function queue_of(key, session)
  local queue, owner, ticket = string.match(key, '^(.*)/([^/]*)%-([xs]%x+)$')
  if queue and owner == session and #ticket == 33 then
    return root .. 'q:' .. queue
  end
end

-- A new revision comes before what is written at it: with no memory left this fails, and then nothing was written.
local changes = {}
local function step()
  rev, last = rev + 1, stamp
  call('HSET', meta, 'rev', digits(rev), 'stamp', stamp)
end
local function tell(...)
  for _, part in ipairs({ ... }) do
    changes[#changes + 1] = part
  end
end
local function publish()
  local bytes = 0
  for _, part in ipairs(changes) do
    bytes = bytes + #part
  end
  local most = math.max(1, math.min(KEPT, math.floor(KEPT_BYTES / bytes)))
  call('XADD', root .. 'w', 'MAXLEN', '~', most, digits(rev) .. '-' .. stamp, unpack(changes))
  changes = {}
end

local function read(key)
  local found = call('HMGET', root .. 'e:' .. key, 'v', 'm', 'c', 's')
  if found[2] and (not found[4] or lives(found[4])) then
    return { key, found[1], found[2], found[3], found[4] or '' }
  end
end

local function unbind(key, session)
  call('SREM', root .. 'b:' .. session, key)
  local queue = queue_of(key, session)
  if queue then
    call('ZREM', queue, key)
  end
end

local function erase(key, session)
  call('DEL', root .. 'e:' .. key)
  call('ZREM', root .. 'i', indexed(key))
  if session then
    unbind(key, session)
  end
  tell('d', key)
end

-- Puts an entry at this revision, bound to `session` or, if that is false, to none. Returns its fence.
local function write(key, value, session)
  local found = call('HMGET', root .. 'e:' .. key, 'c', 's')
  local fence, bound = found[1], found[2]
  if bound and not lives(bound) then
    erase(key, bound)
    fence, bound = false, false
  end
  if not fence then
    call('ZADD', root .. 'i', 0, indexed(key))
  end
  if not fence or bound ~= session then
    fence = digits(rev)
    if bound then
      unbind(key, bound)
      call('HDEL', root .. 'e:' .. key, 's')
    end
    if session then
      call('HSET', root .. 'e:' .. key, 's', session)
      call('SADD', root .. 'b:' .. session, key)
      local queue = queue_of(key, session)
      if queue then
        call('ZADD', queue, fence, key)
      end
    end
  end
  call('HSET', root .. 'e:' .. key, 'v', value, 'm', digits(rev), 'c', fence)
  tell('p', key, 'c', fence, 's', session or '', 'v', value)
  return fence
end

-- Removes a batch of what a dead session leaves; whether that was all.
local function bury(session)
  local bound = root .. 'b:' .. session
  local keys = call('SRANDMEMBER', bound, BATCH)
  if #keys > 0 then
    step()
    for _, key in ipairs(keys) do
      erase(key, session)
    end
    publish()
  end
  if call('EXISTS', bound) == 1 then
    return false
  end
  call('DEL', root .. 's:' .. session)
  call('ZREM', root .. 'd', session)
  return true
end

local function due(session, ttl)
  call('ZADD', root .. 'd', digits(now + ttl + 1), session)
end

-- Whoever comes by buries the dead, so that those who watch are told.
for _, session in ipairs(call('ZRANGEBYSCORE', root .. 'd', '-inf', now, 'LIMIT', 0, 8)) do
  if lives(session) then
    local left = call('PTTL', root .. 's:' .. session)
    due(session, left >= 0 and left or 1000)
  elseif not bury(session) then
    break
  end
end

-- The keys that a prefix covers, in order.
local function covered(prefix)
  local below = prefix == '' and '' or indexed(prefix) .. '\0'
  local ranges = {
    { prefix == '' and '-' or '[' .. below, '(' .. below .. '_quorate' },
    { '[' .. below .. '_quorate\1', prefix == '' and '+' or '(' .. indexed(prefix) .. '\1' },
  }
  local keys = {}
  for _, range in ipairs(ranges) do
    for _, member in ipairs(call('ZRANGEBYLEX', root .. 'i', range[1], range[2])) do
      local rest = '\0' .. string.sub(member, #below + 1) .. '\0'
      if not string.find(rest, '\0_quorate\0', 1, true) then
        keys[#keys + 1] = (string.gsub(member, '%z', '/'))
      end
    end
  end
  return keys
end

-- What stands ahead of a fence in a queue, nearest first: key, fence, key, fence.
local function ahead(queue, fence, limit)
  local places, offset = {}, 0
  while #places < 2 * limit do
    local found = call('ZREVRANGEBYSCORE', root .. 'q:' .. queue, '(' .. fence, '-inf', 'WITHSCORES', 'LIMIT', offset, limit)
    if #found == 0 then
      break
    end
    for at = 1, #found, 2 do
      local bound = call('HGET', root .. 'e:' .. found[at], 's')
      if #places < 2 * limit and bound and lives(bound) then
        places[#places + 1] = found[at]
        places[#places + 1] = found[at + 1]
      end
    end
    offset = offset + limit
  end
  return places
end
