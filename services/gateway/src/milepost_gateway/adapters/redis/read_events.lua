-- Reads the events of a job after a version, if its shard is complete (see read_jobs.lua).
--
-- KEYS  1: checkpoints · 2: the job's hash
-- ARGV  1: the version after which to read · 2: 1 to read the latest event only · 3: a time (ms) instead of 1, or 0
-- Returns {the checkpoint, or nothing if the shard is not complete}, and if the job exists: its version, '1' if it has
-- ended, '1' if events after that version may be missing, then version and event of each.

local checkpoint = redis.call('HMGET', KEYS[1], 'complete', 'at')
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local job = redis.call('HMGET', KEYS[2], 'version', 'status', 'terminal', 'history', 'history_from', 'progress',
  'progressed_at', 'created')
local version, since = job[1], tonumber(ARGV[1])
local answer = { checkpoint[1] == server and checkpoint[2] }
if not job[2] then return answer end

-- A version is about the time of the change; see apply.lua for `created`.
if tonumber(ARGV[3]) > 0 then since = math.max(1, tonumber(ARGV[3]) - 1 - tonumber(job[8])) end

local versions = {}
for one in string.gmatch(job[4] or '', '%d+') do
  if tonumber(one) > since then versions[#versions + 1] = one end
end
local gap = since > 0 and since < (tonumber(job[5]) or 0)
for _, value in ipairs({ version, job[3] or '0', gap and '1' or '0' }) do answer[#answer + 1] = value end

local progress = job[6] and job[6] ~= '' and tonumber(job[7]) > since
if ARGV[2] == '1' then versions = { not progress and versions[#versions] or nil } end

local function add(at, event)
  answer[#answer + 1], answer[#answer + 2] = at, event
end

for _, one in ipairs(versions) do
  if progress and tonumber(job[7]) < tonumber(one) then
    add(job[7], job[6])
    progress = false
  end
  add(one, redis.call('HGET', KEYS[2], 'event:' .. one))
end
if progress then add(job[7], job[6]) end
return answer
