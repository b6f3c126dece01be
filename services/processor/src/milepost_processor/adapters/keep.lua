-- Keeps what the next attempt of a job begins with, if the claim belongs to this execution and has not ended.
--
-- KEYS  1: claim
-- ARGV  1: run · 2: delivery · 3: execution · 4: what is kept, a JSON object
-- Returns 1 if it was kept.

local old = redis.call('HMGET', KEYS[1], 'run', 'delivery', 'execution', 'state')
if old[1] ~= ARGV[1] or old[2] ~= ARGV[2] or old[3] ~= ARGV[3] or old[4] ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'resume', ARGV[4])
return 1
