-- Finds jobs of one shard of which somebody should have spoken by now, and puts each off for a while: whoever asked
-- speaks of them, or dies and is followed by another.
--
-- KEYS  1: deadline zset
-- ARGV  1: how many at most · 2: for how long they are put off (ms)
-- Returns their ids.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), id) end
return due
