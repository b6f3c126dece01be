-- Removes expired jobs of one shard: their hashes, and their entries in the indexes. A hash that is to outlive a message of
-- its job keeps what orders events: the message must not run, and no event brings the job back.
--
-- KEYS  1: expiry zset · 2: deadline zset
-- ARGV  1: prefix of the shard's job hashes · 2: prefix of the shard's indexes · 3: maximum number of jobs
--       4: the channel of the shard's changes · 5: how long hashes outlive their expiry otherwise (ms)
-- Returns how many were removed.

local expiry, jobs, index = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))

for _, id in ipairs(due) do
  local old = redis.call('HMGET', jobs .. id, 'tenant', 'type', 'status', 'batch', 'version', 'sequence', 'history')
  if old[1] and old[2] and old[3] then
    local own, kind, status = index .. old[1] .. ':', old[2], old[3]
    redis.call('ZREM', index .. '*:*:' .. status, id)
    redis.call('ZREM', own .. 'dead', id)
    if old[4] and old[4] ~= '' then
      redis.call('ZREM', index .. '@' .. old[4] .. ':*', id)
      redis.call('ZREM', index .. '@' .. old[4] .. ':' .. status, id)
    end
    for _, name in ipairs({ '*:*', kind .. ':*', '*:' .. status, kind .. ':' .. status }) do
      redis.call('ZREM', own .. name, id)
    end
  end
  if old[6] and redis.call('PTTL', jobs .. id) > tonumber(ARGV[5]) then
    for one in string.gmatch(old[7] or '', '%d+') do redis.call('HDEL', jobs .. id, 'event:' .. one) end
    redis.call('HDEL', jobs .. id, 'state', 'hidden', 'evidence', 'summary', 'progress', 'progressed_at', 'history',
      'history_from')
  else
    redis.call('DEL', jobs .. id)
  end
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', expiry, id)
  redis.call('PUBLISH', ARGV[4], id .. ' ' .. (old[5] or '0') .. ' ' .. (old[3] or 'gone'))
end
return #due
