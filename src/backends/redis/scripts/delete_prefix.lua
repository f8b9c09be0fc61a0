local keys, count, from = covered(ARGV[4]), 0, 1
while from <= #keys do
  step()
  for nth = from, math.min(from + 255, #keys) do
    local key = keys[nth]
    local owner = marks(key)
    if owner == '-' or lives(owner) then
      count = count + 1
    end
    if owner ~= '-' then
      unbind(key, owner)
    end
    erase(key)
  end
  publish()
  from = from + 256
end
return { state, 'ok', count }
