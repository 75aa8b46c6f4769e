-- Takes some requests from every limit in one atomic step on this server's clock: as many as all enforced limits have room for.
--
-- KEYS[i]  the counter of limit i
-- ARGV     how many requests, then for each limit in turn: how it counts (window | log | gcra), capacity, requests, window
--          (milliseconds), cost of one request, 1 if it is enforced, debt. They are arguments, so a changed limit applies at once.
-- returns  {granted, now, then for each limit: requests counted, units left, when it is full again, when one more request fits}
--
-- The arithmetic is that of src/policy/meter.rs. A debt is what was let through elsewhere: it is counted first, as far as there is
-- room. A key's TTL only collects garbage: what is over is read from the value.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local granted = tonumber(ARGV[1])
local used, ends, had = {}, {}, {}

local function whole(number) return string.format('%.0f', number) end

for i, key in ipairs(KEYS) do
  local at = 7 * i - 5
  local kind, capacity, requests, window = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local cost, debt, count, stop = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 6]), 0, 0
  if kind == 'log' then
    local oldest = redis.call('LINDEX', key, 0)
    while oldest and tonumber(oldest) + window <= now do
      redis.call('LPOP', key)
      oldest = redis.call('LINDEX', key, 0)
    end
    -- A clock that went back, as below.
    local newest, back = redis.call('LINDEX', key, -1), -1
    while newest and tonumber(newest) > now do
      redis.call('LSET', key, back, whole(now))
      back = back - 1
      newest = redis.call('LINDEX', key, back)
    end
    count = redis.call('LLEN', key)
  else
    local state = redis.call('HMGET', key, 'c', 'e')
    count, stop = tonumber(state[1] or 0), tonumber(state[2] or 0)
    if not count or not stop then
      return redis.error_reply('ERR the counter ' .. key .. ' holds something else')
    end
    -- A clock that went back: what is too far ahead is pulled in, so that nobody is locked out longer than a window.
    local latest = kind == 'gcra' and now or now + window
    if stop > latest then
      stop = latest
      redis.call('HSET', key, 'e', whole(stop))
    end
    if kind == 'gcra' then
      -- c is the backlog, of which one unit is the window's length; e is when that was so.
      count = math.max(0, count - (now - stop) * requests)
    elseif now >= stop then
      count, stop = 0, now + window
    end
  end
  had[i] = count
  if kind == 'gcra' then
    count = math.max(count, math.min(count + debt * window, capacity * window))
    granted = ARGV[at + 5] == '1' and math.min(granted, math.floor((capacity * window - count) / window / cost)) or granted
  else
    count = math.max(count, math.min(count + debt, capacity))
    granted = ARGV[at + 5] == '1' and math.min(granted, math.floor((capacity - count) / cost)) or granted
  end
  used[i], ends[i] = count, stop
end
granted = math.max(0, granted)

local reply = { granted, now }
for i, key in ipairs(KEYS) do
  local at = 7 * i - 5
  local kind, capacity, requests, window = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local cost = tonumber(ARGV[at + 4])
  local unit = kind == 'gcra' and window or 1
  local taken = math.max(0, math.min(granted, math.floor((capacity * unit - used[i]) / unit / cost)))
  local count = used[i] + taken * cost * unit
  local full, free = ends[i], ends[i]
  if kind == 'log' then
    local new = {}
    for n = 1, count - had[i] do
      new[#new + 1] = whole(now)
      if #new == 1000 or n == count - had[i] then
        redis.call('RPUSH', key, unpack(new))
        new = {}
      end
    end
    if count > had[i] then redis.call('PEXPIRE', key, window + 5000) end
    full = (tonumber(redis.call('LINDEX', key, -1)) or now - window) + window
    local in_the_way = redis.call('LINDEX', key, math.max(0, count + cost - capacity - 1))
    free = in_the_way and tonumber(in_the_way) + window or now + window
  elseif kind == 'gcra' then
    full = now + math.ceil(count / requests)
    free = now + math.max(0, math.ceil((count + cost * window - capacity * window) / requests))
    if count > had[i] then
      redis.call('HSET', key, 'c', whole(count), 'e', whole(now))
      redis.call('PEXPIRE', key, whole(full - now + 5000))
    end
  elseif count > had[i] then
    redis.call('HSET', key, 'c', whole(count), 'e', whole(ends[i]))
    redis.call('PEXPIRE', key, whole(ends[i] - now + 5000))
  end
  local left = math.max(0, math.floor((capacity * unit - count) / unit))
  if left >= cost then free = now end
  reply[#reply + 1] = taken
  reply[#reply + 1] = left
  reply[#reply + 1] = full
  reply[#reply + 1] = free
end
return reply
