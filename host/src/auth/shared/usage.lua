-- KEYS: one for each rate. ARGV: this node, then for each rate in microseconds: its use until now, as much of it as
-- was known before, and how far ahead the rate may be.
-- Returns for each how far ahead of the clock its use by all nodes is. A node's use is counted once, however often
-- it is said: what was counted of it last stands beside. Nodes say several requests at once, some time after they
-- came: what was used in the last half second counts as spread over it.
local lag = 500000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local node = ARGV[1]
local answers = {}
for i, key in ipairs(KEYS) do
  local used, known, most = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local kept = redis.pcall('HMGET', key, 'paid', node)
  if kept.err then
    redis.call('UNLINK', key)
    kept = {}
  end
  local paid, counted = tonumber(kept[1] or ''), tonumber(kept[2] or '')
  -- Written so that what is no number that can be compared is passed over.
  if not (paid and paid >= now - lag) then paid = now - lag end
  if counted and counted > known and counted <= used then known = counted end
  if used > known then paid = paid + used - known end
  if paid > now + most then paid = now + most end
  local ahead = math.max(paid - now, 0)
  -- What nodes leave that are started again and again: a rate that is always in use would keep it for ever.
  if redis.call('HLEN', key) > 1024 then redis.call('UNLINK', key) end
  redis.call('HSET', key, 'paid', string.format('%.0f', paid), node, string.format('%.0f', used))
  redis.call('PEXPIRE', key, math.ceil(ahead / 1000) + 5000)
  answers[i] = ahead
end
return answers
