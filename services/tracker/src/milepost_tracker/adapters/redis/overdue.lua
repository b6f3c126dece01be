-- Finds jobs of one shard whose next event is overdue, and reserves them for the caller for a while. If the caller dies
-- before it has published an event of a job, another tracker finds the job.
--
-- KEYS  1: deadline zset
-- ARGV  1: maximum number of jobs · 2: how long they are reserved (ms)
-- Returns their ids.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id) end
return due
