-- Reads a claim. Any processor's user can write all claims, so one may hold anything: what no processor writes is absent, and
-- a claim that is no hash, or has no run and delivery number, is none. Put before each script that reads claims.

local LARGEST = { run = 9999, delivery = 99999999, attempt = 999998, alive = 999999999999999 }
local MAX_DIGITS, MAX_TEXT = 15, 262144 -- Lua's numbers are exact up to 15 digits; MAX_EVENT of milepost_contracts.values

-- Returns the claim's run, delivery number and these fields by their names, and which of them is unreadable: '' if none is,
-- 'key' if the claim is no hash.
local function read_claim(key, ...)
  local names, claim, unreadable = { 'run', 'delivery', ... }, {}, ''
  local stored = redis.pcall('HMGET', key, unpack(names))
  if stored.err then
    if string.sub(stored.err, 1, 9) ~= 'WRONGTYPE' then error(stored.err) end
    return claim, 'key'
  end
  for place, name in ipairs(names) do
    local value = stored[place]
    if value and LARGEST[name] then
      local number = #value <= MAX_DIGITS and string.match(value, '^%d+$') and tonumber(value)
      if number and number <= LARGEST[name] then claim[name] = number else unreadable = name end
    elseif value then
      if #value <= MAX_TEXT then claim[name] = value else unreadable = name end
    end
  end
  return claim.run and claim.delivery and claim or {}, unreadable
end

