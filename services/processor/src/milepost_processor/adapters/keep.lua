-- Keeps what the next attempt of a job begins with, if the claim belongs to this execution and has not ended.
--
-- KEYS  1: claim
-- ARGV  1: run · 2: delivery · 3: execution · 4: what is kept, a JSON object
-- Returns 1 if it was kept.

local run, delivery, execution = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local claim = read_claim(KEYS[1], 'execution', 'state')
local is_own = claim.run == run and claim.delivery == delivery and claim.execution == execution
if not is_own or claim.state ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'resume', ARGV[4])
return 1
