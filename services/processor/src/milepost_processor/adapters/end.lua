-- Records how an attempt ended, before that is published: one end of a run stands.
--
-- KEYS  1: claim · 2: the job's view, which the tracker writes
-- ARGV  1: run · 2: delivery · 3: execution · 4: attempt · 5: 'absorbing' (success, cancel), 'final' (failure) or
--       'put-back' (another attempt follows) · 6: the outcome, an encoded event · 7: its id · 8: TTL (ms)
-- Returns {'run'} if it was recorded. The outcome stays in the claim until it is confirmed (confirm.lua). Otherwise
-- {'finished'}: another end or a later attempt stands; or {'unconfirmed', the outcome that stands, or '' if there is none}.

local INFERRED = 90000000 -- milepost_contracts.values.INFERRED_DELIVERY

local run, delivery, execution, kind = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[5]
local claim, unreadable = read_claim(KEYS[1], 'execution', 'state', 'end')
local sequence = redis.call('HGET', KEYS[2], 'sequence')

if sequence then
  local seen_run = tonumber(string.sub(sequence, 1, 4))
  if seen_run > run then return { 'finished' } end
  local inferred = tonumber(string.sub(sequence, 8, 15)) >= INFERRED
  if seen_run == run and (string.sub(sequence, 6, 6) == '1' or (inferred and kind == 'final')) then
    return { 'finished' }
  end
end
if claim.run and claim.run > run then return { 'finished' } end
local is_own = claim.run == run and claim.delivery == delivery and claim.execution == execution
if claim.run == run and not is_own then
  local stands = claim['end'] == 'absorbing' or (kind ~= 'absorbing' and claim.delivery >= delivery)
  if stands and claim.state == 'ending' then return { 'unconfirmed', read_claim(KEYS[1], 'outcome').outcome or '' } end
  if stands then return { 'finished' } end
end

if unreadable == 'key' then redis.call('PEXPIRE', KEYS[1], 0) end -- it is no hash
if not is_own then redis.call('HDEL', KEYS[1], 'attempts', 'alive', 'from') end
redis.call('HSET', KEYS[1], 'run', run, 'delivery', delivery, 'execution', execution, 'attempt', ARGV[4],
  'state', 'ending', 'end', kind, 'outcome', ARGV[6], 'outcome_id', ARGV[7])
redis.call('HDEL', KEYS[1], 'resume')
redis.call('PEXPIRE', KEYS[1], ARGV[8])
return { 'run' }
