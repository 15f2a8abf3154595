-- KEYS: topics   ARGV: topic names
-- Answers for each topic false, or for each of its groups {group, messages, in flight, messages ever,
-- id of the oldest}.
local now = number(clock())
local answer = {}

local function ever(queue)
  local facts = redis.pcall('XINFO', 'STREAM', queue)  -- an error where there is no stream yet
  for index = 1, #facts, 2 do
    if facts[index] == 'entries-added' then
      return facts[index + 1]
    end
  end
  return 0
end

for index, topic in ipairs(ARGV) do
  local groups = redis.call('HGET', KEYS[1], topic)
  local described = groups and {}
  for group, queue in pairs(groups and cjson.decode(groups) or {}) do
    if group ~= '' then
      local held = 0
      for _, owner in ipairs(redis.call('ZRANGE', queue .. ':owners', 0, -1)) do
        held = held + redis.call('ZCOUNT', queue .. ':leases:' .. owner, '(' .. now, '+inf')
      end
      local oldest = redis.call('XRANGE', queue, '-', '+', 'COUNT', 1)[1]
      described[#described + 1] = {group, redis.call('XLEN', queue), held, ever(queue), oldest and oldest[1]}
    end
  end
  answer[index] = described
end
return answer
