-- The stream holds so many revisions, and fewer where one has more than that many bytes.
local KEPT = 4096

-- The next revision, and what the stream calls it.
local id
local function advance()
  rev, stamp = string.format('%.0f', rev + 1), ARGV[3]
  id = rev .. '-' .. stamp
  state = id .. ' ' .. epoch
end

-- Tells of what was changed at it, which has so many bytes: each key, and what stands there now.
local function tell(bytes, ...)
  local most = bytes <= KEPT and '4096' or math.max(1, math.floor(KEPT * KEPT / bytes))
  call('XADD', root .. 'w', 'MAXLEN', '~', most, id, ...)
  call('PUBLISH', root .. 'w', cmsgpack.pack(id, ...))
end

local function indexed(key)
  return (string.gsub(key, '/', '\0'))
end
