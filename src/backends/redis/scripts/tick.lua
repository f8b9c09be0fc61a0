-- ARGV: keys that somebody watches. In how many ms the next session may end, -1 when there is none; and the version of each key.
local first = call('ZRANGE', root .. 'd', 0, 0, 'WITHSCORES')
local versions = {}
for nth = 4, #ARGV do
  local owner, version = marks(ARGV[nth])
  versions[nth - 3] = owner and (owner == '-' or lives(owner)) and version or ''
end
return { state, 'ok', first[2] and math.max(1, first[2] - now) or -1, versions }
