-- Records that a run has ended, unless a later run has begun; if a later delivery of the run was claimed, only an
-- absorbing end is recorded.
--
-- KEYS  1: claim
-- ARGV  1: run · 2: delivery · 3: '1' if absorbing · 4: TTL (ms)
-- Returns 1 if it was recorded.

local run, delivery = tonumber(ARGV[1]), tonumber(ARGV[2])
local old = redis.call('HMGET', KEYS[1], 'run', 'delivery')
local old_run, old_delivery = tonumber(old[1]), tonumber(old[2])
if old_run and old_run > run then return 0 end
if old_run == run and old_delivery > delivery and ARGV[3] ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'run', run, 'delivery', delivery, 'state', 'ended')
redis.call('HDEL', KEYS[1], 'resume')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
