-- Renews the claim of an execution, and returns whether it may go on. A claim that Redis has lost, or that was never made
-- because Redis was away, is made again.
--
-- KEYS  1: claim · 2: the job's view, which the tracker writes
-- ARGV  1: run · 2: delivery · 3: execution · 4: how long its processor counts as alive (ms) · 5: TTL of the claim (ms)
--       6: worker · 7: attempt · 8: the attempts up to this one, a JSON array
-- Returns 'run', 'canceled' or 'stale'.

local run, delivery, execution = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local claim, unreadable = read_claim(KEYS[1], 'execution', 'end')
local time = redis.call('TIME')
local alive = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4])

local is_of_run = claim.run == run
if is_of_run and claim.delivery == delivery and claim.execution == execution then
  redis.call('HSET', KEYS[1], 'alive', alive)
elseif (claim.run or 0) > run or (is_of_run and (claim.delivery >= delivery or claim['end'] == 'absorbing')) then
  return 'stale'
else
  if unreadable == 'key' then redis.call('PEXPIRE', KEYS[1], 0) end -- it is no hash
  redis.call('HSET', KEYS[1], 'run', run, 'delivery', delivery, 'execution', execution, 'worker', ARGV[6],
    'state', 'running', 'attempt', ARGV[7], 'attempts', ARGV[8], 'alive', alive)
  redis.call('HDEL', KEYS[1], 'end', 'outcome', 'outcome_id', 'from', 'resume')
  redis.call('PEXPIRE', KEYS[1], ARGV[5])
end
local cancel = redis.call('HGET', KEYS[2], 'cancel_key')
if cancel and tonumber(string.sub(cancel, 1, 4)) == run then return 'canceled' end
return 'run'
