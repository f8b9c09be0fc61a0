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

-- The stream holds so many revisions, and fewer if they are large.
local KEPT, KEPT_BYTES = 4096, 16 * 1024 * 1024

-- A new revision comes before what is written at it: with no memory left this fails, and then nothing was written.
local at
local changes = {}
local function step()
  rev, stamp = rev + 1, ARGV[3]
  at = string.format('%.0f', rev)
  call('HSET', meta, 'rev', at, 'stamp', stamp)
end

local function publish()
  local bytes = 0
  for _, part in ipairs(changes) do
    bytes = bytes + #part
  end
  local most = bytes < KEPT_BYTES / KEPT and KEPT or math.max(1, math.floor(KEPT_BYTES / bytes))
  call('XADD', root .. 'w', 'MAXLEN', '~', most, at .. '-' .. stamp, unpack(changes))
  changes = {}
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
  local last = #changes
  changes[last + 1], changes[last + 2] = 'd', key
end

-- Puts an entry at this revision, bound to `session` or, if that is false, to none; `fence` and `bound` are of the entry
-- that stands there, or stood there for one who is dead: it is made anew either way. Returns its fence.
local function write(key, value, session, fence, bound)
  local entry = root .. 'e:' .. key
  if not fence then
    call('ZADD', root .. 'i', 0, indexed(key))
  end
  if fence and bound == session then
    call('HSET', entry, 'v', value, 'm', at, 'c', fence)
  else
    fence = at
    if bound then
      unbind(key, bound)
    end
    if session then
      call('HSET', entry, 'v', value, 'm', at, 'c', at, 's', session)
      call('SADD', root .. 'b:' .. session, key)
      local queue = queue_of(key, session)
      if queue then
        call('ZADD', queue, at, key)
      end
    else
      call('HSET', entry, 'v', value, 'm', at, 'c', at)
      if bound then
        call('HDEL', entry, 's')
      end
    end
  end
  local last = #changes
  changes[last + 1], changes[last + 2], changes[last + 3], changes[last + 4] = 'p', key, 'c', fence
  changes[last + 5], changes[last + 6], changes[last + 7], changes[last + 8] = 's', session or '', 'v', value
  return fence
end
