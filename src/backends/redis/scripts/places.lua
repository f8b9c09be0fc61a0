-- What stands ahead of a fence in a queue, nearest first: key, fence, key, fence.
local function ahead(queue, fence, limit)
  local places, offset = {}, 0
  while #places < 2 * limit do
    local found = call('ZREVRANGEBYSCORE', root .. 'q:' .. queue, '(' .. fence, '-inf', 'WITHSCORES', 'LIMIT', offset, limit)
    for at = 1, #found, 2 do
      local bound = call('HGET', root .. 'e:' .. found[at], 's')
      if #places < 2 * limit and bound and lives(bound) then
        places[#places + 1] = found[at]
        places[#places + 1] = found[at + 1]
      end
    end
    if #found < 2 * limit then
      break
    end
    offset = offset + limit
  end
  return places
end
