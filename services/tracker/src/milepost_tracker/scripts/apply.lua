-- Merges views of one shard into the stored ones: the merge law of milepost_contracts.view, in Redis.
-- Every stored value is read before the first write, so a key of a wrong type fails the whole call unapplied.
--
-- KEYS  1: expiry zset · 2: deadline zset · 3: watermarks · then job hash and claim for each view
-- ARGV  1: prefix of the shard's indexes · 2: channel of the shard's changes
--       3, 4: how long a finished, a live job is remembered (ms) · 5: how much longer its hash lives (ms)
--       6: whose watermark · 7: what it was last, 0 for a tracker that has none yet, '' to leave watermarks alone
--       then 18 for each view: id, sequence or '', type, status, '1' if terminal, state, hidden, evidence,
--       how long it may be silent (ms) or '', '1' if given up, when the job was created (ms), the event if it is of
--       progress or '', cancel key or '', cancel, tenant, the run that is forgotten (four digits) or '', batch or '', how many steps; and sequence and event of each step, in their order
-- Returns {the new watermark, then for each view its version if it changed or 0, and 1 if nobody but us will end it}.
-- If this tracker's watermark is lower than it was and nobody has replayed the shard since, or the shard is not whole,
-- Redis lost writes: returns {-1}, and nothing is applied.
--
-- A version is the milliseconds since the job was created, or one more than the last: it can't go back, even if
-- Redis forgets the last one. Watermarks are times in the same way.
--
-- For those who listen, a hash keeps the latest steps (lifecycle events) under `step:<version>`, their versions in
-- `steps`, in `last_step` the sequence of the last, and in `forgotten` the version up to which there may have been
-- others. `progress` is the event of a state that is no step, and `progressed_at` its version. Progress may overtake a
-- step on its way: the step is told all the same, and changes no state.

local HEAD, STRIDE, SHARED, STEPS_KEPT = 7, 18, 3, 16
local expiry, deadlines, mark = KEYS[1], KEYS[2], KEYS[3]
local index, channel = ARGV[1], ARGV[2]
local finished_for, live_for, grace = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local count = (#KEYS - SHARED) / 2

local places, expected = {}, HEAD
for i = 1, count do
  places[i] = expected
  expected = expected + STRIDE + 2 * (tonumber(ARGV[expected + STRIDE]) or 0)
end
if #ARGV ~= expected or not (finished_for and live_for and grace) then
  return redis.error_reply('ERR apply.lua: the arguments do not fit the keys')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local seen, marks = tonumber(ARGV[7]), redis.call('HMGET', mark, 'whole', 'at', ARGV[6], 'replayed')
local has_all = seen and marks[1] and ((tonumber(marks[3]) or 0) >= seen or (tonumber(marks[4]) or 0) > seen)
if seen and not has_all then
  redis.call('HDEL', mark, 'whole')
  return { -1 }
end

local stored, claims = {}, {}
for i = 1, count do
  stored[i] = redis.call('HMGET', KEYS[SHARED + 2 * i - 1],
    'sequence', 'version', 'type', 'status', 'cancel_key', 'terminal', 'created', 'steps', 'last_step', 'gone', 'tenant', 'batch')
  claims[i] = redis.call('HMGET', KEYS[SHARED + 2 * i], 'run', 'turn')
end

local function names(tenant, batch, kind, status)
  local own, together = index .. tenant .. ':', index .. '@' .. batch .. ':'
  local all = { index .. '*:*:' .. status, own .. '*:*', own .. kind .. ':*', own .. '*:' .. status,
    own .. kind .. ':' .. status }
  if batch ~= '' then all[6], all[7] = together .. '*', together .. status end
  return all
end

local function move(id, tenant, batch, kind, status, old, created)
  if old and tenant == old.tenant and batch == old.batch and kind == old.kind and status == old.status then return end
  local had = {}
  if old then
    for _, name in ipairs(names(old.tenant, old.batch, old.kind, old.status)) do had[name] = true end
  end
  for _, name in ipairs(names(tenant, batch, kind, status)) do
    if not had[name] then redis.call('ZADD', name, created, id) end
    redis.call('PEXPIRE', name, live_for + grace)
    had[name] = nil
  end
  for name in pairs(had) do redis.call('ZREM', name, id) end
end

local function note(key, id, score)
  if score == '' then
    redis.call('ZREM', key, id)
  else
    redis.call('ZADD', key, score, id)
    redis.call('PEXPIRE', key, live_for + grace)
  end
end

-- Whether a processor has taken up what the view still calls waiting, or is at work: it will end the job itself.
local function has_holder(claim, sequence, status)
  local run, turn = tonumber(claim[1]), tonumber(claim[2])
  if not run or run ~= tonumber(string.sub(sequence, 1, 4)) then return false end
  local seen_turn = tonumber(string.sub(sequence, 8, 15))
  return turn > seen_turn or (turn == seen_turn and status == 'running')
end

-- Returns from which one on the steps of a view are new; they come in the order of their sequences.
local function first_new_step(at, last_step)
  local count = tonumber(ARGV[at + STRIDE])
  for step = 1, count do
    if not last_step or ARGV[at + STRIDE + 2 * step - 1] > last_step then return step, count end
  end
  return count + 1, count
end

-- Keeps steps, each under a version of its own, and returns the version after the last one.
local function keep(key, at, first, count, kept, version, replayed)
  local steps, forgotten = {}, nil
  if not kept or replayed then
    forgotten = string.format('%.0f', version)
    version = version + 1
  end
  for one in string.gmatch(kept or '', '%d+') do steps[#steps + 1] = one end
  for step = first, count do
    steps[#steps + 1] = string.format('%.0f', version)
    redis.call('HSET', key, 'step:' .. steps[#steps], ARGV[at + STRIDE + 2 * step])
    version = version + 1
  end
  while #steps > STEPS_KEPT do
    forgotten = table.remove(steps, 1)
    redis.call('HDEL', key, 'step:' .. forgotten)
  end
  redis.call('HSET', key, 'steps', table.concat(steps, ' '), 'last_step', ARGV[at + STRIDE + 2 * count - 1])
  if forgotten then redis.call('HSET', key, 'forgotten', forgotten) end
  return version
end

-- Takes away all that is shown of a job. What orders its events stays, so that none brings it back.
local function erase(key, id, tenant, batch, kind, status)
  for one in string.gmatch(redis.call('HGET', key, 'steps') or '', '%d+') do redis.call('HDEL', key, 'step:' .. one) end
  redis.call('HDEL', key, 'state', 'hidden', 'evidence', 'progress', 'progressed_at', 'steps', 'forgotten')
  for _, name in ipairs(names(tenant, batch, kind, status)) do redis.call('ZREM', name, id) end
  note(index .. tenant .. ':dead', id, '')
  note(deadlines, id, '')
end

local answer = { 0 }
for i = 1, count do
  local at = places[i]
  local id, sequence, kind, status, terminal = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local progress, cancel_key, cancel, tenant = ARGV[at + 12], ARGV[at + 13], ARGV[at + 14], ARGV[at + 15]
  local key, old = KEYS[SHARED + 2 * i - 1], stored[i]
  local old_sequence, old_version, old_kind, old_status, old_cancel = old[1], old[2], old[3], old[4], old[5]
  local created = old[7]

  local newer = sequence ~= '' and (not old_sequence or sequence > old_sequence)
  local asked = cancel_key ~= '' and (not old_cancel or cancel_key > old_cancel)
  local forget, batch, old_gone = ARGV[at + 16], ARGV[at + 17], old[10] or ''
  local forgets = forget > old_gone
  local before = old_sequence and string.sub(old_sequence, 1, 4) > old_gone
    and { tenant = old[11] or tenant, batch = old[12] or '', kind = old_kind, status = old_status }
  local version, orphan = 0, 0

  if forgets then redis.call('HSET', key, 'gone', forget) end
  if asked then redis.call('HSET', key, 'cancel_key', cancel_key, 'cancel', cancel) end
  if newer then
    local lasts = terminal == '1' and finished_for or live_for
    created = ARGV[at + 11]
    -- Counted from when we hear of it: the clocks of those who report may be wrong.
    local due = ARGV[at + 9] == '' and '' or string.format('%.0f', now + ARGV[at + 9])
    redis.call('HSET', key, 'sequence', sequence, 'tenant', tenant, 'type', kind, 'status', status, 'terminal', terminal,
      'state', ARGV[at + 6], 'hidden', ARGV[at + 7], 'evidence', ARGV[at + 8], 'due', due,
      'created', created, 'batch', batch)
    redis.call('PEXPIRE', key, lasts + grace)
    note(expiry, id, now + lasts)
    note(deadlines, id, due)
    note(index .. tenant .. ':dead', id, ARGV[at + 10] == '1' and created or '')
    move(id, tenant, batch, kind, status, before, created)
  elseif (asked or forgets) and not old_sequence then
    redis.call('PEXPIRE', key, live_for + grace)
  end
  local first, steps = first_new_step(at, old[9])
  local stepped = first <= steps and (newer or old_sequence)
  if newer or stepped or ((asked or forgets) and old_sequence) then
    version = math.max((tonumber(old_version) or 0) + 1, now - tonumber(created))
    local after = stepped and keep(key, at, first, steps, old[8], version, not seen) or version
    if newer and progress ~= '' then
      version = after
      redis.call('HSET', key, 'progress', progress, 'progressed_at', string.format('%.0f', version))
    else
      version = math.max(version, after - 1)
      if newer then redis.call('HSET', key, 'progress', '') end
    end
    redis.call('HSET', key, 'version', string.format('%.0f', version))
    redis.call('PUBLISH', channel, id .. ' ' .. string.format('%.0f', version) .. ' ' .. (newer and status or old[4]))
  end

  local last, last_status = newer and sequence or old_sequence, newer and status or old[4]
  local gone = last and string.sub(last, 1, 4) <= (forgets and forget or old_gone)
  if gone then
    local known = redis.call('HMGET', key, 'tenant', 'batch', 'type')
    erase(key, id, known[1] or tenant, known[2] or '', known[3] or kind, last_status)
  end
  local ended = (newer and terminal or old[6]) == '1'
  local register = asked and cancel_key or old_cancel
  if last and register and not ended and not gone and string.sub(register, 1, 4) == string.sub(last, 1, 4)
    and not has_holder(claims[i], last, last_status) then orphan = 1 end
  answer[2 * i], answer[2 * i + 1] = version, orphan
end

if seen then
  answer[1] = math.max((tonumber(marks[2]) or 0) + 1, now)
  local at = string.format('%.0f', answer[1])
  redis.call('HSET', mark, 'at', at, ARGV[6], at)
  redis.call('PEXPIRE', mark, live_for + grace)
end
return answer
