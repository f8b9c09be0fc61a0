-- The stream holds so many revisions, and fewer where one has more than that many bytes.
local KEPT = 4096

-- The next revision, and what the stream calls it.
local id
local function advance()
  rev, stamp = string.format('%.0f', rev + 1), ARGV[3]
  id = rev .. '-' .. stamp
  state = id .. ' ' .. epoch
end

-- Tells of what was changed at it, which has so many bytes: each key, and what stands there now. In the channel it is one text,
-- whose parts NUL separates, which is in no key: the id, and of each change the key, the length of what stands there, and that;
-- the last has no length, and goes to the end. Those who watch single keys hear of just that one, or of all that concerns more than
-- one.
local function tell(bytes, text, ...)
  if bytes > KEPT then
    call('XADD', root .. 'w', 'MAXLEN', '~', math.max(1, math.floor(KEPT * KEPT / bytes)), id, ...)
  elseif string.sub(rev, -2) == '00' then
    -- To look for what is too much costs as much as half of what is added.
    call('XADD', root .. 'w', 'MAXLEN', '~', '4096', id, ...)
  else
    call('XADD', root .. 'w', id, ...)
  end
  local key, _, more = ...
  call('PUBLISH', root .. 'w', text)
  call('PUBLISH', root .. 'w:' .. (more and '' or key), text)
end

local function indexed(key)
  return (string.gsub(key, '/', '\0'))
end
