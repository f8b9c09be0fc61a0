local session = ARGV[4]
local born = string.match(session, '^(%x+)%.%x+$')
if born and born ~= epoch then
  return { state, 'void' }
end
local ttl = call('GET', root .. 's:' .. session)
if not ttl then
  bury(session)
  return { state, 'lost' }
end
call('PEXPIRE', root .. 's:' .. session, ttl)
due(session, tonumber(ttl))
return { state, 'ok', tonumber(ttl) }
