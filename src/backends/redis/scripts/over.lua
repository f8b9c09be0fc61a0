-- Somebody put there what is no place of this session: it goes.
step()
fence = write(key, ARGV[7], session, owner, fence)
publish(session)
return { state, 'ok', fence, ahead(queue, fence, ARGV[8]) }
