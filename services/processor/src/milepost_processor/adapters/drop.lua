-- Removes a claim whose outcome is not believed, if it still has that outcome.
--
-- KEYS  1: claim
-- ARGV  1: the outcome, or '' if it has none

local claim = read_claim(KEYS[1], 'state', 'outcome')
if claim.state == 'ending' and (claim.outcome or '') == ARGV[1] then redis.call('PEXPIRE', KEYS[1], 0) end
