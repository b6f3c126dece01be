-- Reads fields of jobs' hashes, each with its shard's checkpoint if the shard is complete on this server: after a
-- restart or a failover the server may lack writes. On a cluster, all jobs must be of one shard.
--
-- KEYS  for each job: the checkpoints of its shard · its hash
-- ARGV  the fields to read
-- Returns for each job {the checkpoint, or nothing if the shard is not complete, then the fields}.

local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local answers = {}
for i = 1, #KEYS, 2 do
  local checkpoint = redis.call('HMGET', KEYS[i], 'complete', 'at')
  local answer = redis.call('HMGET', KEYS[i + 1], unpack(ARGV))
  table.insert(answer, 1, checkpoint[1] == server and checkpoint[2])
  answers[#answers + 1] = answer
end
return answers
