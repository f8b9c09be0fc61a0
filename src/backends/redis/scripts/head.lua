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
--
-- A call of a command costs the server as much as ten small steps of Lua, and a function that is not used costs its making:
-- so each script has only those pieces that it needs, and asks for nothing twice.
local call, meta = redis.call, KEYS[1]
local root = string.sub(meta, 1, -5)
local state = call('HMGET', meta, 'epoch', 'rev', 'stamp')
local epoch, rev, stamp = state[1], tonumber(state[2] or 0), state[3] or '0'

-- Begins another life of the store. Revisions go on above all that were given: in microseconds the clock is ahead of any that
-- was counted one by one.
local function begin()
  local clock = call('TIME')
  epoch, stamp = ARGV[3], ARGV[3]
  rev = math.max(ARGV[2] + 1, rev + 1, clock[1] * 1000000 + clock[2])
  -- tostring() would lose the last digits.
  local at = string.format('%.0f', rev)
  call('HSET', meta, 'epoch', epoch, 'rev', at, 'stamp', stamp)
  call('DEL', root .. 'w')
  call('XADD', root .. 'w', at .. '-' .. stamp, 'e', epoch)
end

-- Nothing is here yet, or what was here is lost.
if not epoch or tonumber(ARGV[2]) > rev then
  begin()
end
if ARGV[1] ~= epoch and ARGV[1] ~= '' then
  return { epoch, rev, stamp, 'regressed' }
end

local alive = {}
local function lives(session)
  local lives = alive[session]
  if lives == nil then
    local ours = string.sub(session, 1, #epoch + 1) == epoch .. '.'
    lives = ours and call('EXISTS', root .. 's:' .. session) == 1
    alive[session] = lives
  end
  return lives
end
