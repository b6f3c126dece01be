-- Records in an index of a tag that some of its jobs have changed, by Redis's clock.
--
-- KEYS  1: the index: of all jobs with the tag, or of those that have not ended
-- ARGV  1: how long a job stays in it after its last change (ms) · then the ids

local ttl = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

for i = 2, #ARGV do redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - ttl))
redis.call('PEXPIRE', KEYS[1], ttl)
return #ARGV - 1
