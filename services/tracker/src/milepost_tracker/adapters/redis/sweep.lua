-- Removes expired jobs of one shard: their hashes, and their entries in the indexes.
--
-- KEYS  1: expiry zset · 2: deadline zset
-- ARGV  1: prefix of the shard's job hashes · 2: prefix of the shard's indexes · 3: maximum number of jobs
--       4: the channel of the shard's changes
-- Returns how many were removed.

local expiry, jobs, index = KEYS[1], ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', expiry, '-inf', now, 'LIMIT', 0, tonumber(ARGV[3]))

for _, id in ipairs(due) do
  local old = redis.call('HMGET', jobs .. id, 'tenant', 'type', 'status', 'batch', 'version')
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
  redis.call('DEL', jobs .. id)
  redis.call('ZREM', KEYS[2], id)
  redis.call('ZREM', expiry, id)
  redis.call('PUBLISH', ARGV[4], id .. ' ' .. (old[5] or '0') .. ' ' .. (old[3] or 'gone'))
end
return #due
