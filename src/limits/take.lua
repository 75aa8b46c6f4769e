-- Takes one request from every limit, or from none, in one atomic step on this server's clock.
--
-- KEYS[i]  the counter of limit i: a hash {c = requests in the window, e = its end, Unix milliseconds}
-- ARGV     limit and window (milliseconds) of each, in turn: they are arguments, so a changed limit applies to a running window
-- returns  {granted 0|1, now, remaining 1, end 1, remaining 2, end 2, ...}
--
-- The arithmetic is FixedWindow's in src/policy/limit.rs. A key's TTL only collects garbage: the end is read from the value.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local counts, ends, granted = {}, {}, 1
for i, key in ipairs(KEYS) do
  local limit, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
  local state = redis.call('HMGET', key, 'c', 'e')
  local count, stop = tonumber(state[1] or 0), tonumber(state[2] or 0)
  if not count or not stop then
    return redis.error_reply('ERR the counter ' .. key .. ' holds something else')
  end
  if now >= stop then
    count, stop = 0, now + window
  else
    stop = math.min(stop, now + window)
  end
  if count >= limit then granted = 0 end
  counts[i], ends[i] = count, stop
end

local reply = { granted, now }
for i, key in ipairs(KEYS) do
  if granted == 1 then
    counts[i] = counts[i] + 1
    redis.call('HSET', key, 'c', string.format('%.0f', counts[i]), 'e', string.format('%.0f', ends[i]))
    redis.call('PEXPIRE', key, ends[i] - now + 5000)
  end
  reply[#reply + 1] = math.max(0, tonumber(ARGV[2 * i - 1]) - counts[i])
  reply[#reply + 1] = ends[i]
end
return reply
