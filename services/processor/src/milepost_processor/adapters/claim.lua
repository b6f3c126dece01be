-- Decides whether a delivered job may be run, in one step with cancel (law 6).
--
-- KEYS  1: claim · 2: the job's view, which the tracker writes · 3: the shard's checkpoints, which the tracker writes
-- ARGV  1: run · 2: delivery number · 3: the execution that published the message · 4: execution · 5: worker
--       6: TTL of the claim (ms)
--       7: the number of attempts before this one, according to the message · 8: those attempts, a JSON array
--       9: this attempt, a JSON object without its beginning '{"number":N,'
--       10: how long its processor counts as alive (ms) · 11: the delivery number of its quarantine, or 0
--       12: '1' to claim the job, '0' to find out whether it could be claimed · 13: when it expires if it was not started (ms)
-- Returns nothing if no tracker has confirmed that the shard is complete on this server: a claim, a cancel or an end may
-- be missing. Otherwise {verdict, attempt, the earlier attempts as a JSON array, detail,
-- what the execution that is taken over has kept for this attempt, as JSON or '', and what of the claim is unreadable or ''}. The
-- detail of 'unconfirmed' is the outcome to publish again, or '' if there is none, and that of 'canceled' the cancel key.
--
-- What is known of the run's latest execution comes from the claim, or from the view if that is ahead: Redis may have lost
-- the claim, and a processor may have ended an attempt while Redis was away. `from` is the number of attempts before the
-- message that was claimed, after its run and a dot: an older message with a lower number is stale.

local INFERRED, FAILED = 90000000, 80000000 -- INFERRED_DELIVERY and FAILED_DELIVERY of milepost_contracts.values
local NOBODY = '00000000'

local run, delivery, publisher, execution = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local before, earlier, quarantined = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[11])
local attempt, resume = before + 1, ''

local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if redis.call('HGET', KEYS[3], 'complete') ~= server then return false end

local claim, unreadable = read_claim(KEYS[1], 'execution', 'state', 'attempt', 'attempts', 'alive', 'end', 'from', 'resume')
local view = redis.call('HMGET', KEYS[2], 'sequence', 'cancel_key', 'status', 'terminal')

local function answer(verdict, detail) return { verdict, attempt, earlier, detail or '', resume, unreadable } end

local last
if claim.run then
  if claim.run > run then return answer('stale') end
  if claim.run == run then
    last = { delivery = claim.delivery, execution = claim.execution, state = claim.state, attempt = claim.attempt or 0,
      attempts = claim.attempts, alive = claim.alive or 0, absorbing = claim['end'] == 'absorbing',
      from = tonumber(string.match(claim.from or '', '^' .. run .. '%.(%d+)$')) or 0, resume = claim.resume }
  end
end

-- Returns the delivery number in the view's sequence, and whether it is that of an end that a tracker inferred.
local function seen_delivery()
  local seen = tonumber(string.sub(view[1], 8, 15))
  if seen >= INFERRED then return seen - INFERRED, true end
  return seen >= FAILED and seen - FAILED or seen, false
end

-- Returns the execution that the view shows, if it is a later one than the claim's, or if the view shows that it ended.
local function ahead()
  local seen, inferred = seen_delivery()
  local state = (inferred or view[3] == 'running') and 'running' or view[4] == '1' and 'ended' or 'put-back'
  local same = last and last.delivery == seen and last.execution == string.sub(view[1], 17, 24)
  local ends = same and state ~= 'running' and (last.state == 'running' or last.state == 'ending')
  if seen == 0 or (last and seen <= last.delivery and not ends) then return nil end
  -- The beginning of a document has a fixed form, and a quotation mark inside a string is escaped.
  local document = redis.call('HGET', KEYS[2], 'state') or ''
  local number, attempts = string.match(document, '"attempt":(%d+),"attempts":(%[.-%]),"tags":')
  return { delivery = seen, execution = string.sub(view[1], 17, 24), state = state, attempt = tonumber(number) or 0,
    attempts = attempts, alive = last and last.alive or 0, from = last and last.from or 0,
    resume = same and last.resume }
end

if view[1] then
  local seen_run = tonumber(string.sub(view[1], 1, 4))
  if seen_run > run then return answer('stale') end
  if seen_run == run then
    if string.sub(view[1], 6, 6) == '1' then return answer('finished') end
    if view[4] == '1' and redis.call('HEXISTS', KEYS[2], 'state') == 0 then return answer('finished') end -- it expired
    -- It expired before its first start: the tracker knows that by the clock of Redis.
    local was_delivered = last or seen_delivery() > 0
    if view[4] == '1' and not was_delivered then return answer('finished') end
    last = ahead() or last
  end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Whether the message was published after the latest known attempt. A message that no execution published has no publisher.
local follows = not last or before > last.attempt or (publisher == last.execution and publisher ~= NOBODY)
if last then
  local repeated = last.delivery == delivery and last.execution == execution
  if last.absorbing or not (follows or quarantined >= last.delivery) then
    if not last.absorbing and before < last.from then return answer('stale') end
    if last.state == 'ending' then return answer('unconfirmed', read_claim(KEYS[1], 'outcome').outcome) end
    if last.state == 'ended' then return answer('finished') end
    if last.state == 'put-back' or delivery < last.delivery then return answer('stale') end
    if delivery == last.delivery and not repeated then return answer('taken') end
  end
  if repeated then
    attempt = last.attempt
    local others = string.match(last.attempts or '', '^(.*),{"number":' .. attempt .. ',')
    earlier = others and others .. ']' or '[]'
    resume = last.resume or ''
  else
    attempt = math.max(before, last.attempt) + 1
    if not follows then
      if last.attempts and last.attempt > before then earlier = last.attempts end
      if last.state == 'running' and last.alive > now then return answer('alive') end
      resume = last.resume or ''
    end
  end
end

if view[2] and tonumber(string.sub(view[2], 1, 4)) == run then return answer('canceled', view[2]) end
if attempt == 1 and now > tonumber(ARGV[13]) then return answer('expired') end
if ARGV[12] ~= '1' then return answer('run') end

local entry = '{"number":' .. attempt .. ',' .. ARGV[9]
if unreadable == 'key' then redis.call('PEXPIRE', KEYS[1], 0) end -- it is no hash
local attempts = earlier == '[]' and '[' .. entry .. ']' or string.sub(earlier, 1, -2) .. ',' .. entry .. ']'
redis.call('HSET', KEYS[1], 'run', run, 'delivery', delivery, 'execution', execution, 'worker', ARGV[5],
  'state', 'running', 'attempt', attempt, 'attempts', attempts, 'alive', string.format('%.0f', now + ARGV[10]),
  'from', run .. '.' .. before)
redis.call('HDEL', KEYS[1], 'end', 'outcome', 'outcome_id')
if resume == '' then redis.call('HDEL', KEYS[1], 'resume') end
redis.call('PEXPIRE', KEYS[1], ARGV[6])
return answer('run')
