-- Run first on every connection: whether the last that the caller saw stands here as it saw it. After a failover, what was lost
-- may have been overtaken, and its revisions given to others; then another life of the store begins, as if it were behind.
-- What the stream does not hold any more cannot be seen, and is believed.
-- ARGV: the stamp of the highest revision that the caller has seen.
local found = call('XRANGE', root .. 'w', ARGV[2], ARGV[2])[1]
lost = lost or found and found[1] ~= ARGV[2] .. '-' .. ARGV[4]
