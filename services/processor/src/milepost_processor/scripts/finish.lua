-- Notes that a run has ended, unless a later turn has the job; an absorbing end counts all the same.
--
-- KEYS  1: claim
-- ARGV  1: run · 2: turn · 3: '1' if absorbing · 4: how long it is remembered (ms)
-- Returns 1 if it was noted.

local run, turn = tonumber(ARGV[1]), tonumber(ARGV[2])
local old = redis.call('HMGET', KEYS[1], 'run', 'turn')
local old_run, old_turn = tonumber(old[1]), tonumber(old[2])
if old_run and old_run > run then return 0 end
if old_run == run and old_turn > turn and ARGV[3] ~= '1' then return 0 end
redis.call('HSET', KEYS[1], 'run', run, 'turn', turn, 'state', 'ended')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
