-- Records that a processor announces a version of a job type, or has stopped, and stores the version that applies.
--
-- It is the newest version that a live processor announces: the one that was announced last for the first time. So
-- the answer does not change while processors of several versions announce in turn, or restart.
--
-- KEYS  1: the type · 2: its versions: `v:<version>` is '<first> <the type as JSON>', `p:<instance>` is
--       '<last> <1 if it is live> <version> <its queues, separated by commas>'; all times in ms. What has another form is
--       removed: it must not end every later call.
-- ARGV  1: instance · 2: version · 3: the type as JSON; empty if the processor has stopped · 4: its queues
--       5: when the processor started; 0 if unknown · 6: a version counts as live for this long (ms)
--       7: TTL of the versions (ms) · 8: TTL of the type (ms)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local processor, this = 'p:' .. ARGV[1], 'v:' .. ARGV[2]

local function number(value) return string.format('%.0f', value) end

if ARGV[3] == '' then
  local old = redis.call('HGET', KEYS[2], processor)
  if not old then return end
  redis.call('HSET', KEYS[2], processor, (string.gsub(old, '^(%d+) 1', '%1 0')))
else
  local started = tonumber(ARGV[5])
  local first = started > 0 and math.min(started, now) or now
  local before = tonumber(string.match(redis.call('HGET', KEYS[2], this) or '', '^%d+'))
  if before then first = math.min(first, before) end
  redis.call('HSET', KEYS[2], this, number(first) .. ' ' .. ARGV[3])
  redis.call('HSET', KEYS[2], processor, number(now) .. ' 1 ' .. ARGV[2] .. ' ' .. ARGV[4])
  redis.call('PEXPIRE', KEYS[2], ARGV[7])
end

local all, used, live = redis.call('HGETALL', KEYS[2]), {}, {}
for place = 1, #all, 2 do
  if string.sub(all[place], 1, 2) == 'p:' then
    local last, alive, version = string.match(all[place + 1], '^(%d+) (%d) (%S+) %S+$')
    local age = last and now - tonumber(last)
    if not last or age > tonumber(ARGV[7]) then
      redis.call('HDEL', KEYS[2], all[place])
    else
      used['v:' .. version] = true
      if alive == '1' and age <= tonumber(ARGV[6]) then live['v:' .. version] = true end
    end
  end
end

local newest, applies = '', nil
for place = 1, #all, 2 do
  local field = all[place]
  if string.sub(field, 1, 2) == 'v:' then
    local first, body = string.match(all[place + 1], '^(%d+) (.*)$')
    local order = first and string.format('%020.0f', tonumber(first)) .. field
    if not (first and used[field]) then
      redis.call('HDEL', KEYS[2], field)
    elseif live[field] and order > newest then
      newest, applies = order, body
    end
  end
end
if applies then redis.call('SET', KEYS[1], applies, 'PX', ARGV[8]) end
