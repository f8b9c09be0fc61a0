-- Begins another life of the store if need be. Revisions go on above all that were given: in microseconds the clock is ahead of
-- any that was counted one by one.
if lost then
  local clock = call('TIME')
  epoch, stamp = ARGV[3], ARGV[3]
  -- tostring() would lose the last digits.
  rev = string.format('%.0f', math.max(ARGV[2] + 1, (rev or 0) + 1, clock[1] * 1000000 + clock[2]))
  local id = rev .. '-' .. stamp
  state = id .. ' ' .. epoch
  call('SET', meta, state)
  call('DEL', root .. 'w')
  call('XADD', root .. 'w', id, '', 'epoch ' .. epoch)
  for _, channel in ipairs({ 'w', 'w:' }) do
    call('PUBLISH', root .. channel, id .. '\0\0\0epoch ' .. epoch)
  end
end
if ARGV[1] ~= epoch and ARGV[1] ~= '' then
  return { state, 'regressed' }
end
