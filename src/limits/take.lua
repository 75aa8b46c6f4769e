-- Decides about some questions, one after the other, in one atomic step on this server's clock. A question is how many requests pass
-- that take from the same limits: as many as all of its enforced limits have room for.
--
-- KEYS    the counters of the first question's limits, then those of the second's, …
-- ARGV    one for each question, packed (<): requests I4, limits I4, then for each limit: how it counts I1 (0 window, 1 log, 2 gcra),
--         1 if it is enforced I1, capacity I4, requests I4, window I8 (milliseconds), cost of one request I4, debt I4. Limits are
--         arguments, so a changed one applies at once.
-- returns packed (<): now I8, then for each question: granted i4, -1 if a counter holds something else, and for each limit: requests
--         counted I4, units left I4, when it is full again I8, when one more request fits I8
--
-- The arithmetic is that of src/policy/meter.rs. A debt is what was let through elsewhere: it is counted first, as far as there is
-- room. A key's TTL only collects garbage: what is over is read from the value.
local call, pcall, pack, unpack_from = redis.call, redis.pcall, struct.pack, struct.unpack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local WINDOW, LOG, GCRA = 0, 1, 2
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local reply = { pack('<I8', now) }

local function whole(number) return string.format('%.0f', number) end

-- Moves a log to now and returns how long it is; nothing for a key that is none.
local function log_length(key, window)
  local length = pcall('LLEN', key)
  if type(length) ~= 'number' then return end
  local oldest = call('LINDEX', key, 0)
  while oldest and tonumber(oldest) + window <= now do
    call('LPOP', key)
    oldest = call('LINDEX', key, 0)
  end
  -- A clock that went back, as below.
  local newest, back = call('LINDEX', key, -1), -1
  while newest and tonumber(newest) > now do
    call('LSET', key, back, whole(now))
    back = back - 1
    newest = call('LINDEX', key, back)
  end
  return call('LLEN', key)
end

-- A counter as it is now: units counted, or their backlog; when its window ends, or when that was so; nothing for a key that is none.
local function current(key, limit)
  if limit.kind == LOG then return log_length(key, limit.window), 0 end
  local state = pcall('HMGET', key, 'c', 'e')
  local count, stop = tonumber(state[1] or 0), tonumber(state[2] or 0)
  if state.err or not count or not stop then return end
  -- A clock that went back: what is too far ahead is pulled in, so that nobody is locked out longer than a window.
  local latest = limit.kind == GCRA and now or now + limit.window
  if stop > latest then
    stop = latest
    call('HSET', key, 'e', whole(stop))
  end
  -- c is the backlog of gcra, of which one unit is the window's length; e is when that was so.
  if limit.kind == GCRA then return max(0, count - (now - stop) * limit.requests), stop end
  if now >= stop then return 0, now + limit.window, true end
  return count, stop
end

-- Keeps a log that has become longer, and returns when it is empty and when one more request fits.
local function keep_log(key, limit, count, cost)
  local new = {}
  for n = 1, count - limit.had do
    new[#new + 1] = whole(now)
    if #new == 1000 or n == count - limit.had then
      call('RPUSH', key, unpack(new))
      new = {}
    end
  end
  if count > limit.had then call('PEXPIRE', key, limit.window + 5000) end
  local newest = call('LINDEX', key, -1)
  local in_the_way = call('LINDEX', key, max(0, count + cost - limit.capacity - 1))
  return newest and tonumber(newest) + limit.window or now, in_the_way and tonumber(in_the_way) + limit.window or now + limit.window
end

-- Keeps what was counted, and returns when the counter is full again and when one more request fits.
local function keep(key, limit, count)
  local cost, window = limit.cost, limit.window
  if limit.kind == LOG then return keep_log(key, limit, count, cost) end
  if limit.kind == GCRA then
    local full = now + ceil(count / limit.requests)
    if count > limit.had then
      call('HSET', key, 'c', whole(count), 'e', whole(now))
      call('PEXPIRE', key, whole(full - now + 5000))
    end
    return full, now + max(0, ceil((count + cost * window - limit.capacity * window) / limit.requests))
  end
  if count > limit.had then
    if limit.is_new then
      call('HSET', key, 'c', count, 'e', whole(limit.ends))
      call('PEXPIRE', key, whole(window + 5000))
    else
      call('HINCRBY', key, 'c', count - limit.had)
    end
  end
  return limit.ends, limit.ends
end

local function decide(question, first)
  local granted, limits, at = unpack_from('<I4I4', question)
  local known = {}
  for i = 1, limits do
    local limit = {}
    limit.kind, limit.enforced, limit.capacity, limit.requests, limit.window, limit.cost, limit.debt, at =
      unpack_from('<I1I1I4I4I8I4I4', question, at)
    local count, ends, is_new = current(KEYS[first + i], limit)
    if not count then return -1, known end
    limit.unit = limit.kind == GCRA and limit.window or 1
    limit.had, limit.ends, limit.is_new = count, ends, is_new
    limit.used = max(count, min(count + limit.debt * limit.unit, limit.capacity * limit.unit))
    limit.room = floor((limit.capacity * limit.unit - limit.used) / limit.unit / limit.cost)
    if limit.enforced == 1 then granted = min(granted, limit.room) end
    known[i] = limit
  end
  return max(0, granted), known
end

local first = 0
for _, question in ipairs(ARGV) do
  local _, limits = unpack_from('<I4I4', question)
  local granted, known = decide(question, first)
  reply[#reply + 1] = pack('<i4', granted)
  for i, limit in ipairs(granted < 0 and {} or known) do
    local taken = max(0, min(granted, limit.room))
    local count = limit.used + taken * limit.cost * limit.unit
    local full, free = keep(KEYS[first + i], limit, count)
    local left = max(0, floor((limit.capacity * limit.unit - count) / limit.unit))
    if left >= limit.cost then free = now end
    reply[#reply + 1] = pack('<I4I4I8I8', taken, left, full, free)
  end
  first = first + limits
end
return table.concat(reply)
