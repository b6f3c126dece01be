-- Says that a shard is whole on this server, if it still knows that this tracker was replaying it: a shard that has forgotten that
-- has forgotten what was replayed, too.
--
-- KEYS  1: watermarks
-- ARGV  1: whose · 2: the new watermark · 3: how long it is remembered (ms)
-- Returns 1 if the shard is whole.

if redis.call('HGET', KEYS[1], 'replaying') ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], 'replaying')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], 'whole', server, 'at', ARGV[2], 'replayed', ARGV[2], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
