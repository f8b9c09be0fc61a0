-- The queue that an entry is a place of, by its name: QUEUE/SESSION-TICKET, bound to that session. Most are none, which the
-- ticket tells without making anything.
local function queue_of(key, session)
  local from = #key - #session - 33
  if from > 2 and string.find(key, '^[xs]%x+$', -33)
    and string.find(key, '/' .. session .. '-', from - 1, true) == from - 1 then
    return root .. 'q:' .. string.sub(key, 1, from - 2)
  end
end

-- What is to be written at the revision, and whatever else it takes.
local puts, made, bound, erased, gone, changes, others
local function step()
  advance()
  puts, changes = { meta, state }, {}
  made, bound, erased, gone, others = nil, nil, nil, nil, nil
end

-- Does one thing more at the revision.
local function also(...)
  others = others or {}
  others[#others + 1] = { ... }
end

-- Writes all of it, of which what was bound is bound to `session`, and tells of it. What takes memory comes first: with none left
-- it fails, and then nothing was written.
local function publish(session)
  call('MSET', unpack(puts))
  if made then
    call('ZADD', root .. 'i', unpack(made))
  end
  if bound then
    call('SADD', root .. 'b:' .. session, unpack(bound))
  end
  if erased then
    call('DEL', unpack(erased))
    call('ZREM', root .. 'i', unpack(gone))
  end
  for _, other in ipairs(others or {}) do
    call(unpack(other))
  end
  local texts, bytes = { id }, 0
  for nth = 1, #changes, 2 do
    local key, what = changes[nth], changes[nth + 1]
    bytes = bytes + #key + #what
    local last = #texts
    texts[last + 1], texts[last + 2], texts[last + 3] = key, changes[nth + 2] and #what or '', what
  end
  tell(bytes, table.concat(texts, '\0'), unpack(changes))
end

local function unbind(key, session)
  also('SREM', root .. 'b:' .. session, key)
  local queue = queue_of(key, session)
  if queue then
    also('ZREM', queue, key)
  end
end

local function erase(key)
  local last = #changes
  changes[last + 1], changes[last + 2] = key, ''
  erased, gone = erased or {}, gone or {}
  last = #erased + 1
  erased[last], gone[last] = root .. 'e:' .. key, indexed(key)
end

-- Puts an entry at this revision, bound to `session` or '-'; `before` and `fence` are of the entry that stands there, or stood
-- there for one who is dead: it is made anew either way. Returns its fence.
local function write(key, value, session, before, fence)
  if not fence then
    made = made or {}
    local last = #made
    made[last + 1], made[last + 2] = '0', indexed(key)
  end
  if before ~= session then
    fence = rev
    if before and before ~= '-' then
      unbind(key, before)
    end
    if session ~= '-' then
      bound = bound or {}
      bound[#bound + 1] = key
      local queue = queue_of(key, session)
      if queue then
        also('ZADD', queue, rev, key)
      end
    end
  end
  local entry, last = session .. ' ' .. rev .. ' ' .. fence .. '\n' .. value, #puts
  puts[last + 1], puts[last + 2] = root .. 'e:' .. key, entry
  last = #changes
  changes[last + 1], changes[last + 2] = key, entry
  return fence
end
