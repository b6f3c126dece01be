-- Says that what this server has of a shard is all there was, unless somebody knows better and has said that it is not.
--
-- KEYS  1: watermarks
-- Returns 1 if the shard is whole.

if redis.call('HEXISTS', KEYS[1], 'whole') == 0 then return 0 end
redis.call('HSET', KEYS[1], 'whole', (string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')))
return 1
