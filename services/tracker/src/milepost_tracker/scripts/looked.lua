-- Notes that a tracker has looked at what this server has, and forgets those that have not looked for long.
--
-- KEYS  1: who has looked
-- ARGV  1: who · 2: how long who does not look counts as alive (ms) · 3: how long the note is remembered (ms)
-- Returns how many others are alive and have not looked at this server yet.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('HSET', KEYS[1], ARGV[1], server .. ' ' .. string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[3])

local behind, all = 0, redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local seen, at = string.match(all[i + 1], '(%x+) (%d+)')
  if now - at > tonumber(ARGV[2]) then
    redis.call('HDEL', KEYS[1], all[i])
  elseif seen ~= server then
    behind = behind + 1
  end
end
return behind
