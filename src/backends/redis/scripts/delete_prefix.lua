local keys, count, from = covered(ARGV[4]), 0, 1
while from <= #keys do
  step()
  for at = from, math.min(from + BATCH - 1, #keys) do
    local bound = call('HGET', root .. 'e:' .. keys[at], 's')
    if not bound or lives(bound) then
      count = count + 1
    end
    erase(keys[at], bound)
  end
  publish()
  from = from + BATCH
end
return answer('ok', count)
