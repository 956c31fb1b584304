"""The Lua scripts for leases, heartbeats and queue status.

COMMIT and RENEW check the pending list first: a worker that lost its lease must not overwrite its successor's results.
"""

_OURS = """
local function ours(stream, group, consumer, id, fence)
  local held = redis.call('XPENDING', stream, group, id, id, 1)
  return #held == 1 and held[1][2] == consumer and (fence == '' or held[1][4] == tonumber(fence))
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
for i = 3, #KEYS do
  local at = 7 + (i - 3) * 4
  if ARGV[at + 1] == '0' then
    redis.call('XADD', KEYS[i], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[at], '*', 'f', ARGV[at + 3], 'n', ARGV[4])
  else
    redis.call('XADD', KEYS[i], 'MAXLEN', '~', ARGV[at], '*', 'f', ARGV[at + 3], 'n', ARGV[4])
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
-- KEYS: jobs stream. ARGV: group, consumer, idle time in ms to set, ids. Returns the ids that are not ours.
local lost = {}
for i = 4, #ARGV do
  if ours(KEYS[1], ARGV[1], ARGV[2], ARGV[i], '') then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
"""
)

SWEEP = """
-- KEYS: jobs stream. ARGV: group, consumer, minimum idle time in ms, maximum number of entries.
-- Returns (id, fields, deliveries) of each entry that was taken over.
local taken, cursor = {}, '0-0'
repeat
  local reply = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], cursor, 'COUNT', ARGV[4] - #taken)
  cursor = reply[1]
  for _, entry in ipairs(reply[2]) do
    local held = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
    taken[#taken + 1] = {entry[1], entry[2], held[1][4]}
  end
until cursor == '0-0' or #taken >= tonumber(ARGV[4])
return taken
"""

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

STATUS = """
-- KEYS: ready set, hash of loads, jobs stream, what is waited for. ARGV: group.
-- Returns (ready members, age in ms of the oldest waiting job, jobs in progress, loads as consumer and JSON in turn,
-- what is waited for)
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
return {
  redis.call('ZRANGEBYSCORE', KEYS[1], now_ms, '+inf'), age, held, redis.call('HGETALL', KEYS[2]),
  redis.call('GET', KEYS[4])
}
"""

ALL = (COMMIT, RENEW, SWEEP, TAKE_LINE, END_LINE, HEARTBEAT, STATUS)
"""The scripts that a bus loads when it connects."""
