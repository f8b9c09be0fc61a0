-- In how many ms the next session may end; -1 when there is none.
local first = call('ZRANGE', root .. 'd', 0, 0, 'WITHSCORES')
return { state, 'ok', first[2] and math.max(1, first[2] - now) or -1 }
