-- Confirms that a shard is complete on this server, unless a tracker has found that it is not.
--
-- KEYS  1: checkpoints
-- Returns 1 if the shard is complete.

if redis.call('HEXISTS', KEYS[1], 'complete') == 0 then return 0 end
local time = redis.call('TIME')
local at = math.max((tonumber(redis.call('HGET', KEYS[1], 'at')) or 0) + 1, time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('HSET', KEYS[1], 'complete', (string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')),
  'at', string.format('%.0f', at))
return 1
