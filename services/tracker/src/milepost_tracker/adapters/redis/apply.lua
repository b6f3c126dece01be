-- Merges views of one shard into the stored ones: the merge law of milepost_contracts.status.merge, in Redis.
-- Every stored value is read before the first write, so if a key has a wrong type, the call fails and nothing is applied.
-- A claim is read as `read_claim` does it: processors write it, and nothing in it makes the call fail.
--
-- KEYS  1: expiry zset · 2: deadline zset · 3: checkpoints · then job hash and claim for each view
-- ARGV  1: prefix of the shard's indexes · 2: channel of the shard's changes
--       3, 4: TTL of a finished, of an unfinished job (ms) · 5: how much later its hash expires (ms)
--       6: the owner of the checkpoint · 7: its last checkpoint, 0 if it has none yet, '' for a replay
--       8: the time of the oldest lifecycle event of the call (ms), or ''
--       then 20 for each view: 1 id · 2 sequence or '' · 3 type · 4 status · 5 when it ended (ms) or '' · 6 state · 7 hidden
--       8 evidence · 9 time-out of the next event (ms) or '' · 10 '1' if dead-lettered
--       11 when the job was created (ms) · 12 the event if it is progress, or '' · 13 cancel key or '' · 14 cancel request
--       15 tenant · 16 the run that is deleted (four digits) or '' · 17 batch or '' · 18 summary
--       19 how long its hash is kept at least (ms) or '' · 20 the number of lifecycle events, then sequence and event of
--       each, in the order of their sequences
-- Returns {the new checkpoint, then for each view its version if it changed or 0, 1 if only the tracker will end it or 2 if
-- so because its claim is unreadable, and 1 if the job has not ended}.
-- The checkpoint `until` is the time of events: those before it were applied. It rises only while the shard is complete on
-- this server: what is written to a restored snapshot does not hide how old the snapshot is.
-- If this owner's checkpoint is lower than its last one and the shard was not replayed since, or the shard is not
-- complete, Redis has lost writes: returns {-1}, and nothing is applied.
--
-- A version is the time of the change (ms since 1970, by the clock of Redis), or one more than the last version: it never
-- decreases, even if Redis loses the last one. Checkpoints are times in the same way. `created` is the time from which the
-- versions of a job count: 0, or its creation if an earlier release wrote its first version.
--
-- An ended job is kept for its TTL from its end on, whenever its events arrive: if that is over, its data are removed at once.
--
-- For streams, a hash keeps the latest lifecycle events under `event:<version>`, their versions in `history`, the sequence
-- of the latest in `history_sequence`, and in `history_from` the version up to which earlier events may be missing.
-- `progress` is the event of a state that came with progress, and `progressed_at` its version. Progress may overtake the
-- start of its execution: `progressed_at` is 0 until that event is here, so no stream sends the progress first.

local HEAD, STRIDE, SHARED, HISTORY_LENGTH = 8, 20, 3, 16
local expiry, deadlines, checkpoints = KEYS[1], KEYS[2], KEYS[3]
local index, channel = ARGV[1], ARGV[2]
local finished_ttl, unfinished_ttl, grace = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local count = (#KEYS - SHARED) / 2

local places, expected = {}, HEAD
for i = 1, count do
  places[i] = expected
  expected = expected + STRIDE + 2 * (tonumber(ARGV[expected + STRIDE]) or 0)
end
if #ARGV ~= expected or not (finished_ttl and unfinished_ttl and grace) then
  return redis.error_reply('ERR apply.lua: the number of arguments does not match the keys')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- nil if this is a replay.
local last_checkpoint = tonumber(ARGV[7])
local known = redis.call('HMGET', checkpoints, 'complete', 'at', ARGV[6], 'replayed', 'until')
local has_all = last_checkpoint and known[1]
  and ((tonumber(known[3]) or 0) >= last_checkpoint or (tonumber(known[4]) or 0) > last_checkpoint)
if last_checkpoint and not has_all then
  redis.call('HDEL', checkpoints, 'complete')
  return { -1 }
end

local stored, claims, unreadable = {}, {}, {}
for i = 1, count do
  stored[i] = redis.call('HMGET', KEYS[SHARED + 2 * i - 1], 'sequence', 'version', 'type', 'status', 'cancel_key',
    'terminal', 'created', 'history', 'history_sequence', 'deleted', 'tenant', 'batch', 'summary',
    'progressed_at')
  claims[i], unreadable[i] = read_claim(KEYS[SHARED + 2 * i])
end

local function index_names(tenant, batch, kind, status)
  local of_tenant, of_batch = index .. tenant .. ':', index .. '@' .. batch .. ':'
  local names = { index .. '*:*:' .. status, of_tenant .. '*:*', of_tenant .. kind .. ':*', of_tenant .. '*:' .. status,
    of_tenant .. kind .. ':' .. status }
  if batch ~= '' then names[6], names[7] = of_batch .. '*', of_batch .. status end
  return names
end

-- Moves a job from the indexes of its old status to those of its new one.
local function move(id, tenant, batch, kind, status, old, created)
  if old and tenant == old.tenant and batch == old.batch and kind == old.kind and status == old.status then return end
  local old_names = {}
  if old then
    for _, name in ipairs(index_names(old.tenant, old.batch, old.kind, old.status)) do old_names[name] = true end
  end
  for _, name in ipairs(index_names(tenant, batch, kind, status)) do
    if not old_names[name] then redis.call('ZADD', name, created, id) end
    redis.call('PEXPIRE', name, unfinished_ttl + grace)
    old_names[name] = nil
  end
  for name in pairs(old_names) do redis.call('ZREM', name, id) end
end

-- Sets the score of a job in a zset, or removes the job if the score is ''.
local function set_score(key, id, score)
  if score == '' then
    redis.call('ZREM', key, id)
  else
    redis.call('ZADD', key, score, id)
    redis.call('PEXPIRE', key, unfinished_ttl + grace)
  end
end

-- Returns whether a processor has the job, and will end it itself: it runs, or was claimed since the view's event. The
-- claim of a running job may be lost; if its processor is too, the redelivery ends it.
local function is_claimed(claim, sequence, status)
  if status == 'running' then return true end
  return claim.run == tonumber(string.sub(sequence, 1, 4)) and claim.delivery > tonumber(string.sub(sequence, 8, 15))
end

-- Returns whether two sequences are of one execution.
local function same_execution(one, other) return one and string.sub(one, 1, 24) == string.sub(other, 1, 24) end

-- Returns the number of the first lifecycle event of a view that is new, and how many the view has.
local function first_new_event(at, history_sequence)
  local events = tonumber(ARGV[at + STRIDE])
  for number = 1, events do
    if not history_sequence or ARGV[at + STRIDE + 2 * number - 1] > history_sequence then return number, events end
  end
  return events + 1, events
end

-- Returns whether nothing happened to the job before this event: it was submitted.
local function is_first_of_job(sequence)
  return string.match(sequence, '^0001%.0%.00000000%.%x+%.0%.0+$') ~= nil
end

-- Adds lifecycle events, each under its own version, and returns the version after the last one.
local function add_to_history(key, at, first, events, history, version, is_replay)
  local versions, from = {}, nil
  if is_replay or not (history or is_first_of_job(ARGV[at + STRIDE + 2 * first - 1])) then
    from = string.format('%.0f', version)
    version = version + 1
  end
  for one in string.gmatch(history or '', '%d+') do versions[#versions + 1] = one end
  for number = first, events do
    versions[#versions + 1] = string.format('%.0f', version)
    redis.call('HSET', key, 'event:' .. versions[#versions], ARGV[at + STRIDE + 2 * number])
    version = version + 1
  end
  while #versions > HISTORY_LENGTH do
    from = table.remove(versions, 1)
    redis.call('HDEL', key, 'event:' .. from)
  end
  redis.call('HSET', key, 'history', table.concat(versions, ' '),
    'history_sequence', ARGV[at + STRIDE + 2 * events - 1])
  if from then redis.call('HSET', key, 'history_from', from) end
  return version
end

-- Removes the data of a job. The fields that order its events are kept, so that no late event restores the job. If it still
-- counts as one of its batch, it stays in the batch's index of its status, until it is swept.
local function erase(key, id, tenant, batch, kind, status, counts)
  for one in string.gmatch(redis.call('HGET', key, 'history') or '', '%d+') do
    redis.call('HDEL', key, 'event:' .. one)
  end
  redis.call('HDEL', key, 'state', 'hidden', 'evidence', 'summary', 'progress', 'progressed_at', 'history', 'history_from')
  local names = index_names(tenant, batch, kind, status)
  if counts then names[7] = nil end
  for _, name in ipairs(names) do redis.call('ZREM', name, id) end
  set_score(index .. tenant .. ':dead', id, '')
  set_score(deadlines, id, '')
end

local answer = { 0 }
for i = 1, count do
  local at = places[i]
  local id, sequence, kind, status, ended = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], tonumber(ARGV[at + 5])
  local progress, cancel_key, cancel, tenant = ARGV[at + 12], ARGV[at + 13], ARGV[at + 14], ARGV[at + 15]
  local deleted, batch, summary = ARGV[at + 16], ARGV[at + 17], ARGV[at + 18]
  local key, old = KEYS[SHARED + 2 * i - 1], stored[i]
  local old_sequence, old_version, old_kind, old_status, old_cancel = old[1], old[2], old[3], old[4], old[5]
  local created, old_deleted, is_shown = tonumber(ARGV[at + 11]), old[10] or '', old[13]

  local is_newer = sequence ~= '' and (not old_sequence or sequence > old_sequence)
  local cancels = cancel_key ~= '' and (not old_cancel or cancel_key > old_cancel)
  local deletes = deleted > old_deleted
  local before = is_shown
    and { tenant = old[11] or tenant, batch = old[12] or '', kind = old_kind, status = old_status }
  local version, orphan, is_over = 0, 0, false

  if deletes then redis.call('HSET', key, 'deleted', deleted) end
  if cancels then redis.call('HSET', key, 'cancel_key', cancel_key, 'cancel', cancel) end
  if is_newer then
    -- The processor's clock may be wrong: a job ends after its creation, and not in the future.
    local ttl = ended and math.max(math.min(ended, now), created) + finished_ttl - now or unfinished_ttl
    is_over = ttl <= 0
    -- Counted from now: the publisher's clock may be wrong.
    local due = ARGV[at + 9] == '' and '' or string.format('%.0f', now + ARGV[at + 9])
    redis.call('HSET', key, 'sequence', sequence, 'tenant', tenant, 'type', kind, 'status', status,
      'terminal', ended and '1' or '0', 'state', ARGV[at + 6], 'hidden', ARGV[at + 7], 'evidence', ARGV[at + 8],
      'summary', summary, 'due', due, 'created', old_version and old[7] or '0', 'batch', batch)
    redis.call('PEXPIRE', key, math.max(math.max(ttl, 0) + grace, tonumber(ARGV[at + 19])))
    set_score(expiry, id, is_over and '' or now + ttl)
    set_score(deadlines, id, due)
    set_score(index .. tenant .. ':dead', id, ARGV[at + 10] == '1' and created or '')
    if not before and old[12] and old[12] ~= '' then redis.call('ZREM', index .. '@' .. old[12] .. ':' .. old_status, id) end
    move(id, tenant, batch, kind, status, before, created)
  elseif (cancels or deletes) and not old_sequence then
    redis.call('PEXPIRE', key, unfinished_ttl + grace)
  end
  local first, events = first_new_event(at, old[9])
  local has_events = first <= events and (is_newer or old_sequence)
  if is_newer or has_events or ((cancels or deletes) and old_sequence) then
    version = math.max((tonumber(old_version) or 0) + 1, now)
    local after = has_events and add_to_history(key, at, first, events, old[8], version, not last_checkpoint) or version
    local history_sequence = has_events and ARGV[at + STRIDE + 2 * events - 1] or old[9]
    local is_started = same_execution(history_sequence, is_newer and sequence or old_sequence)
    if (is_newer and progress ~= '' or not is_newer and old[14] == '0') and is_started then
      version = after
      redis.call('HSET', key, 'progressed_at', string.format('%.0f', version))
    else
      version = math.max(version, after - 1)
      if is_newer then redis.call('HSET', key, 'progressed_at', progress == '' and '' or '0') end
    end
    if is_newer then redis.call('HSET', key, 'progress', progress) end
    redis.call('HSET', key, 'version', string.format('%.0f', version))
    redis.call('PUBLISH', channel, id .. ' ' .. string.format('%.0f', version) .. ' ' .. (is_newer and status or old[4]))
  end

  local latest, latest_status = is_newer and sequence or old_sequence, is_newer and status or old[4]
  local is_deleted = latest and string.sub(latest, 1, 4) <= (deletes and deleted or old_deleted)
  if is_deleted or is_over then
    local fields = redis.call('HMGET', key, 'tenant', 'batch', 'type')
    erase(key, id, fields[1] or tenant, fields[2] or '', fields[3] or kind, latest_status, not is_over)
  end
  local has_ended = old[6] == '1'
  if is_newer then has_ended = ended ~= nil end
  local request = cancels and cancel_key or old_cancel
  if latest and request and not has_ended and not is_deleted and string.sub(request, 1, 4) == string.sub(latest, 1, 4)
    and not is_claimed(claims[i], latest, latest_status) then orphan = unreadable[i] == '' and 1 or 2 end
  answer[#answer + 1], answer[#answer + 2], answer[#answer + 3] = version, orphan, (latest and not has_ended) and 1 or 0
end

if last_checkpoint then
  answer[1] = math.max((tonumber(known[2]) or 0) + 1, now)
  local at = string.format('%.0f', answer[1])
  redis.call('HSET', checkpoints, 'at', at, ARGV[6], at)
  local oldest = tonumber(ARGV[8])
  if oldest and known[1] == string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then
    oldest = math.max(math.min(oldest, now), tonumber(known[5]) or 0)
    redis.call('HSET', checkpoints, 'until', string.format('%.0f', oldest))
  end
  redis.call('PEXPIRE', checkpoints, unfinished_ttl + grace)
end
return answer
