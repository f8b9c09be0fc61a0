-- ARGV: session, queue, key of the place, its fence, limit.
local session, fence = ARGV[4], ARGV[7]
local bound, _, found = marks(ARGV[6])
if found ~= fence or bound ~= session or not lives(session) then
  return { state, 'gone' }
end
return { state, 'ok', ahead(ARGV[5], fence, ARGV[8]) }
