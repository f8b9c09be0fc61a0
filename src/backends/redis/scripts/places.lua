-- What stands ahead of a fence in a queue, nearest first: key, fence, key, fence.
local function ahead(queue, fence, limit)
  local places, offset, most = {}, 0, 2 * limit
  while #places < most do
    -- Not their scores, which are their fences: to write those takes longer than all else.
    local found = call('ZREVRANGEBYSCORE', root .. 'q:' .. queue, '(' .. fence, '-inf', 'LIMIT', offset, limit)
    for _, key in ipairs(found) do
      local bound, _, stood = marks(key)
      if bound and #places < most and lives(bound) then
        local last = #places
        places[last + 1], places[last + 2] = key, stood
      end
    end
    if #found < tonumber(limit) then
      break
    end
    offset = offset + limit
  end
  return places
end
