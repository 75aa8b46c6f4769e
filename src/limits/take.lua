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
-- A counter is a string of two numbers: of a window, when it ends and what it has counted; of gcra, when it was looked at and its
-- backlog, of which one unit is the window's length. A log is a list of times. The arithmetic is that of src/policy/meter.rs. A debt is
-- what was let through elsewhere: it is counted first, as far as there is room. A key's TTL only collects garbage: what is over is read
-- from the value.
local call, pack, unpack_from = redis.call, struct.pack, struct.unpack
local floor, ceil, max, min, sub = math.floor, math.ceil, math.max, math.min, string.sub
local WINDOW, LOG, GCRA = 0, 1, 2
local LIMIT = '<I1I1I4I4I8I4I4'
local time = call('TIME')
local now = time[1] * 1000 + floor(time[2] / 1000)
local reply = { pack('<I8', now) }

-- All counters that are strings, in one call; what is written goes here too, because two questions can be about one counter.
local values = {}
for i, value in ipairs(call('MGET', unpack(KEYS))) do values[KEYS[i]] = value end

local function whole(number) return string.format('%.0f', number) end

-- The two numbers of a counter: zeros of one that is not there, nothing of one that is something else.
local function numbers(key)
  local value = values[key]
  if value then return tonumber(sub(value, 1, 13)), tonumber(sub(value, 15)) end
  if call('EXISTS', key) == 0 then return 0, 0 end
end

local function write(key, value, life)
  values[key] = value
  if life then call('SET', key, value, 'PX', whole(life + 5000)) else call('SET', key, value, 'KEEPTTL') end
end

-- When a window ends, what it has counted, and whether it is a new one. A clock that went back: what is too far ahead is pulled in, so
-- that nobody is locked out longer than a window.
local function window(key, length)
  local stop, count = numbers(key)
  if not stop or not count then return end
  if stop > now + length then
    stop = now + length
    write(key, stop .. ' ' .. count)
  end
  if now >= stop then return now + length, 0, true end
  return stop, count
end

-- A question about one window, as nearly all are.
local function take_from_window(key, requests, enforced, capacity, length, cost, debt)
  local ends, had, is_new = window(key, length)
  if not ends then return pack('<i4', -1) end
  local used = debt > 0 and max(had, min(had + debt, capacity)) or had
  local room = max(0, floor((capacity - used) / cost))
  local taken = min(requests, room)
  local count = used + taken * cost
  if count > had then write(key, ends .. ' ' .. count, is_new and length) end
  local left = max(0, capacity - count)
  return pack('<i4I4I4I8I8', enforced == 1 and taken or requests, taken, left, ends, left >= cost and now or ends)
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
    call('LSET', key, back, whole(now))
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
  if not at or not backlog then return end
  if at > now then
    at = now
    write(key, at .. ' ' .. whole(backlog))
  end
  return 0, max(0, backlog - (now - at) * limit.requests)
end

-- Keeps a log that has become longer, and returns when it is empty and when one more request fits.
local function keep_log(key, limit, count)
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
  local in_the_way = call('LINDEX', key, max(0, count + limit.cost - limit.capacity - 1))
  return newest and tonumber(newest) + limit.window or now, in_the_way and tonumber(in_the_way) + limit.window or now + limit.window
end

-- Keeps what was counted, and returns when the counter is full again and when one more request fits.
local function keep(key, limit, count)
  if limit.kind == LOG then return keep_log(key, limit, count) end
  if limit.kind == GCRA then
    local full = now + ceil(count / limit.requests)
    if count > limit.had then write(key, now .. ' ' .. whole(count), full - now) end
    return full, now + max(0, ceil((count + limit.cost * limit.window - limit.capacity * limit.window) / limit.requests))
  end
  if count > limit.had then write(key, limit.ends .. ' ' .. count, limit.is_new and limit.window) end
  return limit.ends, limit.ends
end

-- The limits of a question with what they have counted, and how many requests pass; nothing if a counter holds something else.
local function look(question, first)
  local granted, limits, at = unpack_from('<I4I4', question)
  local known = {}
  for i = 1, limits do
    local limit = {}
    limit.kind, limit.enforced, limit.capacity, limit.requests, limit.window, limit.cost, limit.debt, at =
      unpack_from(LIMIT, question, at)
    limit.ends, limit.had, limit.is_new = current(KEYS[first + i], limit)
    if not limit.had then return end
    limit.unit = limit.kind == GCRA and limit.window or 1
    limit.used = max(limit.had, min(limit.had + limit.debt * limit.unit, limit.capacity * limit.unit))
    limit.room = floor((limit.capacity * limit.unit - limit.used) / limit.unit / limit.cost)
    if limit.enforced == 1 then granted = min(granted, limit.room) end
    known[i] = limit
  end
  return known, max(0, granted)
end

local function take(question, first)
  local known, granted = look(question, first)
  if not known then return pack('<i4', -1) end
  local answer = { pack('<i4', granted) }
  for i, limit in ipairs(known) do
    local taken = max(0, min(granted, limit.room))
    local count = limit.used + taken * limit.cost * limit.unit
    local full, free = keep(KEYS[first + i], limit, count)
    local left = max(0, floor((limit.capacity * limit.unit - count) / limit.unit))
    answer[i + 1] = pack('<I4I4I8I8', taken, left, full, left >= limit.cost and now or free)
  end
  return table.concat(answer)
end

local first = 0
for i, question in ipairs(ARGV) do
  local requests, limits, kind, enforced, capacity, _, length, cost, debt = unpack_from('<I4I4I1I1I4I4I8I4I4', question)
  if limits == 1 and kind == WINDOW then
    reply[i + 1] = take_from_window(KEYS[first + 1], requests, enforced, capacity, length, cost, debt)
  else
    reply[i + 1] = take(question, first)
  end
  first = first + limits
end
return table.concat(reply)
