-- Records that a recorded outcome was confirmed, and drops its bytes.
--
-- KEYS  1: claim
-- ARGV  1: the outcome's id
-- Returns 1 if the claim has that outcome.

local claim = redis.call('HMGET', KEYS[1], 'state', 'end', 'outcome_id')
if claim[1] ~= 'ending' or claim[3] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', claim[2] == 'put-back' and 'put-back' or 'ended')
redis.call('HDEL', KEYS[1], 'outcome', 'outcome_id')
return 1
