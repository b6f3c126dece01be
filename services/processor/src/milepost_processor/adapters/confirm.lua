-- Records that a recorded outcome was confirmed, and drops its bytes.
--
-- KEYS  1: claim
-- ARGV  1: the outcome's id
-- Returns 1 if the claim has that outcome.

local claim = read_claim(KEYS[1], 'state', 'end', 'outcome_id')
if claim.state ~= 'ending' or claim.outcome_id ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', claim['end'] == 'put-back' and 'put-back' or 'ended')
redis.call('HDEL', KEYS[1], 'outcome', 'outcome_id')
return 1
