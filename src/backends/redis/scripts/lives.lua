local alive = {}
local function lives(session)
  local lives = alive[session]
  if lives == nil then
    local ours = string.sub(session, 1, #epoch + 1) == epoch .. '.'
    lives = ours and call('EXISTS', root .. 's:' .. session) == 1
    alive[session] = lives
  end
  return lives
end
