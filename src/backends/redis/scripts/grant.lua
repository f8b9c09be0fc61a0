-- ARGV: a name that nobody else has, ttl in ms.
local session, ttl = epoch .. '.' .. ARGV[4], ARGV[5]
step()
call('SET', root .. 's:' .. session, ttl, 'PX', ttl)
due(session, tonumber(ttl))
-- Those who watch learn when to look after it.
changes = { '', 'ttl ' .. ttl }
publish()
return { state, 'ok', session }
