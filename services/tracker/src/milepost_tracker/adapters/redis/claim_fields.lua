-- Returns fields of a claim.
--
-- KEYS  1: claim
-- ARGV  the names of the fields
-- Returns {which field is unreadable or '', then the value of each, or nothing if it is absent}.

local claim, unreadable = read_claim(KEYS[1], unpack(ARGV))
local answer = { unreadable }
for place, name in ipairs(ARGV) do answer[place + 1] = claim[name] or false end
return answer
