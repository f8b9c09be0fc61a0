-- What stands ahead of a fence in a queue, nearest first: key, fence, key, fence.
local function ahead(queue, fence, limit)
  local places, offset, most = {}, 0, 2 * limit
  while #places < most do
    local found = call('ZREVRANGEBYSCORE', root .. 'q:' .. queue, '(' .. fence, '-inf', 'WITHSCORES', 'LIMIT', offset, limit)
    for at = 1, #found, 2 do
      local bound = #places < most and marks(found[at])
      if bound and lives(bound) then
        places[#places + 1] = found[at]
        places[#places + 1] = found[at + 1]
      end
    end
    if #found < most then
      break
    end
    offset = offset + limit
  end
  return places
end
