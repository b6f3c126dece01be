-- Merges views of one shard into the stored ones: the merge law of milepost_contracts.view, in Redis.
-- Every stored value is read before the first write, so a key of a wrong type fails the whole call unapplied.
--
-- KEYS  1: expiry zset · 2…: one job hash for each view
-- ARGV  1: prefix of the shard's indexes · 2: channel of the shard's changes
--       3, 4: how long a finished, a live job is remembered (ms) · 5: how much longer its hash lives (ms)
--       then 8 for each view: id, sequence or '', type, status, '1' if terminal, state, cancel key or '', cancel
-- Returns the version of each view that changed, and 0 for each that did not.

local HEAD, STRIDE = 5, 8
local expiry, index, channel = KEYS[1], ARGV[1], ARGV[2]
local finished_for, live_for, grace = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local count = #KEYS - 1

if #ARGV ~= HEAD + count * STRIDE or not (finished_for and live_for and grace) then
  return redis.error_reply('ERR apply.lua: the arguments do not fit the keys')
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local stored = {}
for i = 1, count do
  stored[i] = redis.call('HMGET', KEYS[1 + i], 'sequence', 'version', 'type', 'status', 'cancel_key')
end

local function names(kind, status)
  return { index .. '*:*', index .. kind .. ':*', index .. '*:' .. status, index .. kind .. ':' .. status }
end

local function move(id, kind, status, old_kind, old_status)
  if kind == old_kind and status == old_status then return end
  if old_status then
    for _, name in ipairs(names(old_kind, old_status)) do redis.call('ZREM', name, id) end
  end
  for _, name in ipairs(names(kind, status)) do
    redis.call('ZADD', name, 0, id)
    redis.call('PEXPIRE', name, live_for + grace)
  end
end

local versions = {}
for i = 1, count do
  local at = HEAD + (i - 1) * STRIDE
  local id, sequence, kind, status = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local terminal, state, cancel_key, cancel = ARGV[at + 5], ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  local key, old = KEYS[1 + i], stored[i]
  local old_sequence, old_version, old_kind, old_status, old_cancel = old[1], old[2], old[3], old[4], old[5]

  local newer = sequence ~= '' and (not old_sequence or sequence > old_sequence)
  local asked = cancel_key ~= '' and (not old_cancel or cancel_key > old_cancel)
  versions[i] = 0

  if asked then redis.call('HSET', key, 'cancel_key', cancel_key, 'cancel', cancel) end
  if newer then
    local lasts = terminal == '1' and finished_for or live_for
    redis.call('HSET', key, 'sequence', sequence, 'type', kind, 'status', status, 'state', state)
    redis.call('PEXPIRE', key, lasts + grace)
    redis.call('ZADD', expiry, now + lasts, id)
    redis.call('PEXPIRE', expiry, live_for + grace)
    move(id, kind, status, old_kind, old_status)
  elseif asked and not old_sequence then
    redis.call('PEXPIRE', key, live_for + grace)
  end
  if newer or (asked and old_sequence) then
    versions[i] = (tonumber(old_version) or 0) + 1
    redis.call('HSET', key, 'version', versions[i])
    redis.call('PUBLISH', channel, id .. ' ' .. versions[i] .. ' ' .. (newer and status or old_status))
  end
end
return versions
