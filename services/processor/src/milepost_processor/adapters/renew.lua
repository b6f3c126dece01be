-- Renews the claim of a running execution, and returns whether it may go on.
--
-- KEYS  1: claim · 2: the job's view, which the tracker writes
-- ARGV  1: run · 2: delivery · 3: execution · 4: how long its processor counts as alive (ms)
-- Returns 'run', 'canceled' or 'stale'.

local run, delivery = tonumber(ARGV[1]), tonumber(ARGV[2])
local old = redis.call('HMGET', KEYS[1], 'run', 'delivery', 'execution')
local old_run, old_delivery = tonumber(old[1]), tonumber(old[2])
if old_run and (old_run > run or (old_run == run and old_delivery > delivery)) then return 'stale' end
if old_run == run and old_delivery == delivery then
  if old[3] ~= ARGV[3] then return 'stale' end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  redis.call('HSET', KEYS[1], 'alive', string.format('%.0f', now + ARGV[4]))
end
local cancel = redis.call('HGET', KEYS[2], 'cancel_key')
if cancel and tonumber(string.sub(cancel, 1, 4)) == run then return 'canceled' end
return 'run'
