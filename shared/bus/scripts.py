"""The Lua scripts for leases, heartbeats, queue status and the life of a session.

COMMIT and RENEW check the pending list first: a worker that lost its lease must not overwrite its successor's results.
SWEEP and STATUS check whether a consumer is still subscribed to its presence channel: its process lives as long.
"""

from shared.protocol.streams import PRESENCE_PREFIX, PRESENT

_OURS = """
local function ours(stream, group, consumer, id, fence)
  local held = redis.call('XPENDING', stream, group, id, id, 1)
  return #held == 1 and held[1][2] == consumer and (fence == '' or held[1][4] == tonumber(fence))
end
"""

_GONE = f"""
-- Whether this consumer has died. Of consumers without the mark in their names only their leases tell.
local function gone(consumer)
  return string.find(consumer, ':{PRESENT}', 1, true)
    and redis.call('PUBSUB', 'NUMSUB', '{PRESENCE_PREFIX.decode()}' .. consumer)[2] == 0
end
"""

COMMIT = (
    _OURS
    + """
-- KEYS: jobs stream, session hash, then one stream per entry to append
-- ARGV: group, consumer, id, fence, done ('1': ack and delete), checkpoint ('': none),
-- then per stream (maxlen, create, seconds until it expires, body);
-- create '0' appends only to a stream that exists
if not ours(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4]) then return 0 end
local fence = ARGV[4] == '1' and {} or {'n', ARGV[4]}
for i = 3, #KEYS do
  local at = 7 + (i - 3) * 4
  if ARGV[at + 1] == '0' then
    redis.call('XADD', KEYS[i], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[at], '*', 'f', ARGV[at + 3], unpack(fence))
  else
    redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[at], '*', 'f', ARGV[at + 3], unpack(fence))
    if ARGV[at + 2] ~= '0' then redis.call('EXPIRE', KEYS[i], ARGV[at + 2], 'NX') end
  end
end
-- a session whose keys have expired stays gone: nothing would let a hash without an expiry go again
if ARGV[6] ~= '' and redis.call('EXISTS', KEYS[2]) == 1 then redis.call('HSET', KEYS[2], 'checkpoint', ARGV[6]) end
if ARGV[5] == '1' then
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
  redis.call('XDEL', KEYS[1], ARGV[3])
end
return 1
"""
)

RENEW = (
    _OURS
    + """
-- KEYS: jobs stream. ARGV: group, consumer, the consumer that is to hold them from now on, ids.
-- Returns the ids that are not ours.
local lost = {}
for i = 4, #ARGV do
  if ours(KEYS[1], ARGV[1], ARGV[2], ARGV[i], '') then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)

SWEEP = (
    _GONE
    + """
-- KEYS: jobs stream. ARGV: group, consumer, lease in ms, maximum number of entries to take over, and of this consumer's
-- previous sweep: since when it has swept without a gap, and its time, both in ms (0, 0: this is the first one).
-- Returns the two of this sweep, and (id, fields, deliveries) of each entry that was taken over.
local lease, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since = tonumber(ARGV[5])
if now - ARGV[6] > lease / 4 then since = now end

local taken = {}
local function take(...)
  local ids, deliveries = {}, {}
  if room <= #taken then return 0 end
  for _, held in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ...)) do
    ids[#ids + 1], deliveries[held[1]] = held[1], held[4] + 1
  end
  if #ids == 0 then return 0 end
  for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))) do
    taken[#taken + 1] = {entry[1], entry[2], deliveries[entry[1]]}
  end
  return #ids
end

for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local name, pending = consumer[2], consumer[4]
  if gone(name) and pending == take('-', '+', room - #taken, name) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name)
  end
end
-- A stall of this machine or of the broker keeps others from renewing: only a lease that ran out while this consumer
-- swept without a gap has been abandoned.
if now - since >= lease then take('IDLE', lease, '-', '+', room - #taken) end
return {since, now, taken}
"""
)

TAKE_LINE = """
-- KEYS: session hash. ARGV: hash of the resume token, the new line, seconds until the keys expire.
-- The new line serves the session from now on. Returns the resume points; false if there is no session with this token.
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], 'line', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return redis.call('HGET', KEYS[1], 'resume_points')
"""

END_LINE = """
-- KEYS: session hash, input stream, log, then the session's other keys. ARGV: line, last entry, seconds until the keys expire.
-- Ends a session that no other line has taken. Returns whether it has ended.
if redis.call('HGET', KEYS[1], 'line') ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[2], '*', 'f', ARGV[2])
redis.call('XADD', KEYS[3], '*', 'f', ARGV[2])
for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ARGV[3]) end
return 1
"""

HEARTBEAT = """
-- KEYS: ready set, hash of loads. ARGV: member, milliseconds until it expires ('0' removes it), consumer, its load.
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms)) do
  redis.call('HDEL', KEYS[2], cjson.decode(gone)['consumer'])
  redis.call('ZREM', KEYS[1], gone)
end
if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[3])
else
  redis.call('ZADD', KEYS[1], now_ms + ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
end
return 1
"""

STATUS = (
    _GONE
    + """
-- KEYS: ready set, hash of loads, jobs stream, what is waited for. ARGV: group.
-- Returns (ready members, age in ms of the oldest waiting job, jobs in progress, loads of living consumers as consumer
-- and JSON in turn, what is waited for)
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local age, held = 0, 0
local found = redis.pcall('XINFO', 'GROUPS', KEYS[3])
if not found.err then
  for _, group in ipairs(found) do
    local info = {}
    for j = 1, #group, 2 do info[group[j]] = group[j + 1] end
    if info['name'] == ARGV[1] then
      held = info['pending']
      local oldest = redis.call('XRANGE', KEYS[3], '(' .. info['last-delivered-id'], '+', 'COUNT', 1)
      if #oldest == 1 then age = math.max(0, now_ms - tonumber(string.match(oldest[1][1], '^%d+'))) end
    end
  end
end
local loads, living = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #loads, 2 do
  if not gone(loads[i]) then
    living[#living + 1] = loads[i]
    living[#living + 1] = loads[i + 1]
  end
end
return {redis.call('ZRANGEBYSCORE', KEYS[1], now_ms, '+inf'), age, held, living, redis.call('GET', KEYS[4])}
"""
)

LISTEN = """
-- KEYS: jobs stream of the vad stage, session hash. ARGV: maximum length of the stream, the job's entry.
-- The session remembers its job: see KEEP_ALIVE.
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'f', ARGV[2])
redis.call('HSET', KEYS[2], 'job', id)
return id
"""

KEEP_ALIVE = """
-- KEYS: jobs stream of the vad stage, session hash, log, the session's other keys. ARGV: group, seconds to live.
-- Returns 'lost' if hash or log are gone, 'unheard' if no vad worker has or will get the session, else 'whole'.
for i = 4, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
-- XX: a late write may have created them again, without a time to live
local session = redis.call('EXPIRE', KEYS[2], ARGV[2], 'XX')
local log = redis.call('EXPIRE', KEYS[3], ARGV[2], 'XX')
if session == 0 or log == 0 then return 'lost' end
local job = redis.call('HGET', KEYS[2], 'job')
if not job or #redis.call('XRANGE', KEYS[1], job, job) == 1 then return 'whole' end
local held = redis.pcall('XPENDING', KEYS[1], ARGV[1], job, job, 1)
if not held.err and #held == 1 then return 'whole' end
return 'unheard'
"""

RETRY = """
-- KEYS: dead letters, jobs stream. ARGV: id of the letter, maximum length of the jobs stream, the job's entry.
-- Returns 0 if the letter is gone: a job is put back once.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'f', ARGV[3])
return 1
"""

ALL = (COMMIT, RENEW, SWEEP, HEARTBEAT, STATUS, LISTEN, KEEP_ALIVE, RETRY)
