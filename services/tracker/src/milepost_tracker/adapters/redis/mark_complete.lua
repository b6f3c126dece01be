-- Marks a shard as complete on this server, if it still has the record of this tracker's replay: if Redis has lost the
-- record, it has lost the replayed events too.
--
-- KEYS  1: checkpoints
-- ARGV  1: the owner of the checkpoint · 2: the new checkpoint · 3: its TTL (ms)
-- Returns 1 if the shard is complete.

if redis.call('HGET', KEYS[1], 'replaying') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'replaying')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], 'complete', server, 'at', ARGV[2], 'replayed', ARGV[2], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
