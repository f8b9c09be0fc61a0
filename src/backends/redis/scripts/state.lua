-- Stands before every other script. KEYS[1] is `{TAG}:meta`; all other keys are made from it, and lie in its slot.
-- ARGV: the epoch that the caller knows ('' for none), the highest revision it has seen, and a number that nobody else has: the
-- stamp of what is written here, and the name of an epoch to begin if need be.
--
--   {TAG}:meta       string: REV-STAMP EPOCH, where REV is the revision that was given last
--   {TAG}:e:KEY      string: SESSION VERSION FENCE, a line break, and the value; the session is - where there is none
--   {TAG}:i          sorted set: every key, with NUL for '/', so that its order is by segments
--   {TAG}:s:SESSION  string with a life: the ttl in ms; the session lives while this is there
--   {TAG}:d          sorted set: sessions by when they end, in ms
--   {TAG}:b:SESSION  set: the keys that are bound to it
--   {TAG}:q:QUEUE    sorted set: the places of a queue by fence
--   {TAG}:w          stream: one entry for every revision, without a gap, under the id REVISION-STAMP; and a channel of the same name
--
-- Most of the time goes into Lua, and not into the commands: a call of one that reads takes some 0.3 µs, as long as a pattern that
-- takes a text apart; each string that is made costs 1.2 ns a byte, as all of it is hashed; and a function that is not used costs
-- its making. So each script has only those pieces that it needs, and makes nothing twice. Numbers are left as they are written:
-- to write one costs 0.5 µs.
local call, match, meta = redis.call, string.match, KEYS[1]
local root = string.sub(meta, 1, -5)
local state = call('GET', meta)
-- `%d` takes twice as long as what is no separator.
local rev, stamp, epoch = match(state or '', '^([^-]+)-([^ ]+) (.+)$')
-- Nothing is here yet, or what was here is lost.
local lost = not epoch or #ARGV[2] > #rev or #ARGV[2] == #rev and ARGV[2] > rev
