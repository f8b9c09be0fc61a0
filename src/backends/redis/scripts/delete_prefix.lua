local keys, count, from = covered(ARGV[4]), 0, 1
while from <= #keys do
  step()
  for nth = from, math.min(from + 255, #keys) do
    local bound = call('HGET', root .. 'e:' .. keys[nth], 's')
    if not bound or lives(bound) then
      count = count + 1
    end
    erase(keys[nth], bound)
  end
  publish()
  from = from + 256
end
return { epoch, rev, stamp, 'ok', count }
