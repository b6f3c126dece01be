-- Decides whether a delivered job may be run, in one step with cancel (law 6).
--
-- KEYS  1: claim · 2: the job's view, which the tracker writes · 3: the shard's checkpoints, which the tracker writes
-- ARGV  1: run · 2: delivery number · 3: the execution that published the message · 4: execution · 5: worker
--       6: TTL of the claim (ms)
--       7: the number of this attempt according to the message · 8: the earlier attempts according to it, a JSON array
--       9: this attempt, a JSON object without its beginning '{"number":N,'
--       10: how long its processor counts as alive (ms)
-- Returns nothing if no tracker has confirmed that the shard is complete on this server: a claim, a cancel or an end may
-- be missing. Otherwise {verdict, attempt, the earlier attempts as a JSON array, 1 if an earlier delivery was started,
-- what that delivery kept for this attempt, as JSON or ''}.

local run, delivery, publisher = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local execution, attempt, earlier = ARGV[4], tonumber(ARGV[7]), ARGV[8]

local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('HGET', KEYS[3], 'complete') ~= server then return false end

local old = redis.call('HMGET', KEYS[1], 'run', 'delivery', 'execution', 'state', 'attempt', 'attempts', 'alive', 'resume')
local view = redis.call('HMGET', KEYS[2], 'sequence', 'cancel_key')
local old_run, old_delivery = tonumber(old[1]), tonumber(old[2])
local crashed, resume = 0, ''

local function answer(verdict) return { verdict, attempt, earlier, crashed, resume } end

if old_run == run and old_delivery < delivery and old[3] ~= publisher then
  -- An earlier delivery of this message was started, which the message does not contain.
  crashed, resume = 1, old[8] or ''
  if old[5] and old[6] then attempt, earlier = tonumber(old[5]) + 1, old[6] end
end

if view[1] then
  local seen_run, absorbed = tonumber(string.sub(view[1], 1, 4)), string.sub(view[1], 6, 6)
  if seen_run > run then return answer('stale') end
  if seen_run == run and absorbed == '1' then return answer('finished') end
end
if old_run then
  if run < old_run then return answer('stale') end
  if run == old_run then
    if old[4] == 'ended' then return answer('finished') end
    if delivery < old_delivery then return answer('stale') end
    if delivery == old_delivery and execution ~= old[3] then return answer('taken') end
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if crashed == 1 and (tonumber(old[7]) or 0) > now then return answer('alive') end
if view[2] and tonumber(string.sub(view[2], 1, 4)) == run then return answer('canceled') end

local entry = '{"number":' .. attempt .. ',' .. ARGV[9]
local attempts = earlier == '[]' and '[' .. entry .. ']' or string.sub(earlier, 1, -2) .. ',' .. entry .. ']'
redis.call('HSET', KEYS[1], 'run', run, 'delivery', delivery, 'execution', execution, 'worker', ARGV[5],
  'state', 'running', 'attempt', attempt, 'attempts', attempts, 'alive', string.format('%.0f', now + ARGV[10]))
if crashed == 0 then redis.call('HDEL', KEYS[1], 'resume') end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return answer('run')
