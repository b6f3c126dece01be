-- Reads what there is to tell of a job after a version, if its shard may be trusted (see look.lua).
--
-- KEYS  1: watermarks · 2: the job's hash
-- ARGV  1: the version after which · 2: 1 to read only what is latest · 3: or the time after which (ms), or 0
-- Returns {the watermark, or nothing if nobody vouches for the shard}, and if there is such a job: its version,
-- '1' if it has ended, '1' if there may have been more after that version, then version and event for each there is.

local mark = redis.call('HMGET', KEYS[1], 'whole', 'at')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local known = redis.call('HMGET', KEYS[2], 'version', 'status', 'terminal', 'steps', 'forgotten', 'progress',
  'progressed_at', 'created')
local version, since = known[1], tonumber(ARGV[1])
local answer = { mark[1] == server and mark[2] }
if not known[2] then return answer end

-- A version is about the milliseconds since the job was created; of a job that is younger than the time, all is told.
local younger = false
if tonumber(ARGV[3]) > 0 then
  since = math.max(1, tonumber(ARGV[3]) - 1 - tonumber(known[8]))
  younger = since == 1
end

local steps = {}
for one in string.gmatch(known[4] or '', '%d+') do
  if tonumber(one) > since then steps[#steps + 1] = one end
end
local more = since > 0 and not younger and since < (tonumber(known[5]) or 0)
for _, value in ipairs({ version, known[3] or '0', more and '1' or '0' }) do answer[#answer + 1] = value end

local progress = known[6] and known[6] ~= '' and tonumber(known[7]) > since
if ARGV[2] == '1' then steps = { not progress and steps[#steps] or nil } end

local function tell(at, event)
  answer[#answer + 1], answer[#answer + 2] = at, event
end

for _, one in ipairs(steps) do
  if progress and tonumber(known[7]) < tonumber(one) then
    tell(known[7], known[6])
    progress = false
  end
  tell(one, redis.call('HGET', KEYS[2], 'step:' .. one))
end
if progress then tell(known[7], known[6]) end
return answer
