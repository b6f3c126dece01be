-- Reads a job's hash, and whether its shard may be trusted: a tracker has vouched for what this very server has. After a
-- restart or a failover it may have less than was there before.
--
-- KEYS  1: watermarks · 2: the job's hash
-- ARGV  the hash's fields to read
-- Returns {the watermark, or nothing if nobody vouches for the shard, then the fields}.

local mark = redis.call('HMGET', KEYS[1], 'whole', 'at')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local answer = redis.call('HMGET', KEYS[2], unpack(ARGV))
table.insert(answer, 1, mark[1] == server and mark[2])
return answer
