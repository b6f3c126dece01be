-- Records that a tracker has checked this server, and removes trackers that have not checked any server for long.
--
-- KEYS  1: the trackers
-- ARGV  1: the tracker · 2: time without a check after which a tracker counts as ended (ms) · 3: the record's TTL (ms)
-- Returns how many others are alive and have not checked this server yet.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], ARGV[1], server .. ' ' .. string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[3])

local behind, all = 0, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local checked, at = string.match(all[i + 1], '(%x+) (%d+)')
  if now - at > tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], all[i])
  elseif checked ~= server then
    behind = behind + 1
  end
end
return behind
