-- Decides about some questions, one after the other, in one atomic step on this server's clock. A question is how many requests pass
-- that take from the same limits: as many as all of its enforced limits have room for.
--
-- KEYS    the counters of the first question's limits, then those of the second's, …
-- ARGV[1] the limits that are asked about, packed (<), one after the other: how it counts I1 (0 window, 1 log, 2 gcra), 1 if it is
--         enforced I1, capacity I4, requests I4, window I8 (milliseconds). They are arguments, so a changed one applies at once.
-- ARGV[2] the questions, packed: requests I4, counters I4, then for each counter: which limit I4 (from 0), cost of one request I4,
--         debt I4
-- returns packed (<): now I8, then for each question: granted i4, -1 if a counter holds something else, and for each counter: requests
--         counted I4, units left I4, when it is full again I8, when one more request fits I8
--
-- A counter is a string of two numbers, packed, because to write and to read them as text costs more than to count: of a window, when
-- it ends and what it has counted; of gcra, when it was looked at and its backlog, of which one unit is the window's length. A log is a
-- list of times. The arithmetic is that of src/policy/meter.rs. A debt is what was let through elsewhere: it is counted first, as far as
-- there is room. A key's TTL only collects garbage: what is over is read from the value.
local call, pack, unpack_from = redis.call, struct.pack, struct.unpack
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local WINDOW, LOG, GCRA = 0, 1, 2
local KEYS, questions = KEYS, ARGV[2]
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local reply = { pack('<I8', now) }

-- All counters that are strings, in one call; what is written goes here too, because two questions can be about one counter.
local values = {}
for i, value in ipairs(call('MGET', unpack(KEYS))) do values[KEYS[i]] = value end

local function read_limits(packed)
  local limits, at = {}, 1
  while at <= #packed do
    local limit, enforced = {}, nil
    limit.kind, enforced, limit.capacity, limit.requests, limit.window, at = unpack_from('<I1I1I4I4I8', packed, at)
    limit.is_enforced = enforced == 1
    limits[#limits + 1] = limit
  end
  return limits
end
local limits = read_limits(ARGV[1])

-- The two numbers of a counter: zeros of one that is not there, nothing of one that is something else.
local function numbers(key)
  local value = values[key]
  if value then
    if #value == 16 then return unpack_from('<dd', value) end
  elseif call('EXISTS', key) == 0 then
    return 0, 0
  end
end

local function write(key, first, second, life)
  local value = pack('<dd', first, second)
  values[key] = value
  if life then call('SET', key, value, 'PX', life + 5000) else call('SET', key, value, 'KEEPTTL') end
end

-- When a window ends, what it has counted, and whether it is a new one. A clock that went back: what is too far ahead is pulled in, so
-- that nobody is locked out longer than a window.
local function window(key, length)
  local stop, count = numbers(key)
  if not stop then return end
  if stop > now + length then
    stop = now + length
    write(key, stop, count)
  end
  if now >= stop then return now + length, 0, true end
  return stop, count
end

-- A question about one window, as nearly all are.
local function take_from_window(key, requests, limit, cost, debt)
  local capacity = limit.capacity
  local ends, had, is_new = window(key, limit.window)
  if not ends then return pack('<i4', -1) end
  local used, taken = had, requests
  if debt > 0 then used = max(had, min(had + debt, capacity)) end
  if used + requests * cost > capacity then taken = max(0, floor((capacity - used) / cost)) end
  local count = used + taken * cost
  if count > had then write(key, ends, count, is_new and limit.window) end
  local left = capacity - count
  if left < 0 then left = 0 end
  return pack('<i4I4I4I8I8', limit.is_enforced and taken or requests, taken, left, ends, left >= cost and now or ends)
end

-- Moves a log to now and returns how long it is; nothing for a key that is none.
local function log_length(key, length)
  local kind = call('TYPE', key).ok
  if kind ~= 'list' and kind ~= 'none' then return end
  local oldest = call('LINDEX', key, 0)
  while oldest and tonumber(oldest) + length <= now do
    call('LPOP', key)
    oldest = call('LINDEX', key, 0)
  end
  -- A clock that went back, as above.
  local newest, back = call('LINDEX', key, -1), -1
  while newest and tonumber(newest) > now do
    call('LSET', key, back, now)
    back = back - 1
    newest = call('LINDEX', key, back)
  end
  return call('LLEN', key)
end

-- Moves a counter to now: when it is full again, units counted (gcra: their backlog), and whether it is new.
local function current(key, limit)
  if limit.kind == WINDOW then return window(key, limit.window) end
  if limit.kind == LOG then return 0, log_length(key, limit.window) end
  local at, backlog = numbers(key)
  if not at then return end
  if at > now then
    at = now
    write(key, at, backlog)
  end
  return 0, max(0, backlog - (now - at) * limit.requests)
end

-- Keeps a log that has become longer, and returns when it is empty and when one more request fits.
local function keep_log(key, limit, had, count, cost)
  local new = {}
  for n = 1, count - had do
    new[#new + 1] = now
    if #new == 1000 or n == count - had then
      call('RPUSH', key, unpack(new))
      new = {}
    end
  end
  if count > had then call('PEXPIRE', key, limit.window + 5000) end
  local newest = call('LINDEX', key, -1)
  local in_the_way = call('LINDEX', key, max(0, count + cost - limit.capacity - 1))
  return newest and tonumber(newest) + limit.window or now, in_the_way and tonumber(in_the_way) + limit.window or now + limit.window
end

-- Keeps what was counted, and returns when the counter is full again and when one more request fits.
local function keep(counter, count)
  local key, limit, had, cost = counter.key, counter.limit, counter.had, counter.cost
  if limit.kind == LOG then return keep_log(key, limit, had, count, cost) end
  if limit.kind == GCRA then
    local full = now + ceil(count / limit.requests)
    if count > had then write(key, now, count, full - now) end
    return full, now + max(0, ceil((count + cost * limit.window - limit.capacity * limit.window) / limit.requests))
  end
  if count > had then write(key, counter.ends, count, counter.is_new and limit.window) end
  return counter.ends, counter.ends
end

-- The counters of a question, and how many requests pass; nothing if one of them holds something else. `at` is where they are in the
-- questions, `first` where their keys begin.
local function look(granted, size, at, first)
  local counters = {}
  for i = 1, size do
    local which, debt
    local counter = { key = KEYS[first + i] }
    which, counter.cost, debt, at = unpack_from('<I4I4I4', questions, at)
    local limit = limits[which + 1]
    counter.limit = limit
    counter.ends, counter.had, counter.is_new = current(counter.key, limit)
    if not counter.had then return end
    local unit = limit.kind == GCRA and limit.window or 1
    counter.used = max(counter.had, min(counter.had + debt * unit, limit.capacity * unit))
    counter.room = floor((limit.capacity * unit - counter.used) / unit / counter.cost)
    counter.unit = unit
    if limit.is_enforced then granted = min(granted, counter.room) end
    counters[i] = counter
  end
  return counters, max(0, granted)
end

local function take(requests, size, at, first)
  local counters, granted = look(requests, size, at, first)
  if not counters then return pack('<i4', -1) end
  local answer = { pack('<i4', granted) }
  for i, counter in ipairs(counters) do
    local unit, limit = counter.unit, counter.limit
    local taken = max(0, min(granted, counter.room))
    local count = counter.used + taken * counter.cost * unit
    local full, free = keep(counter, count)
    local left = max(0, floor((limit.capacity * unit - count) / unit))
    answer[i + 1] = pack('<I4I4I8I8', taken, left, full, left >= counter.cost and now or free)
  end
  return table.concat(answer)
end

local at, first = 1, 0
while at <= #questions do
  local requests, size, which, cost, debt = unpack_from('<I4I4I4I4I4', questions, at)
  local limit = limits[which + 1]
  if size == 1 and limit.kind == WINDOW then
    reply[#reply + 1] = take_from_window(KEYS[first + 1], requests, limit, cost, debt)
  else
    reply[#reply + 1] = take(requests, size, at + 8, first)
  end
  at = at + 8 + 12 * size
  first = first + size
end
return table.concat(reply)
