-- Reads fields of jobs' hashes, each with whether its shard may be trusted: a tracker has vouched for what this very server
-- has. After a restart or a failover it may have less than was there before. On a cluster, all are of one shard.
--
-- KEYS  for each job: the watermarks of its shard · its hash
-- ARGV  the hash's fields to read
-- Returns for each job {the watermark, or nothing if nobody vouches for the shard, then the fields}.

local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local answers = {}
for i = 1, #KEYS, 2 do
  local mark = redis.call('HMGET', KEYS[i], 'whole', 'at')
  local answer = redis.call('HMGET', KEYS[i + 1], unpack(ARGV))
  table.insert(answer, 1, mark[1] == server and mark[2])
  answers[#answers + 1] = answer
end
return answers
