-- Append messages to every queue of their topics: all of them or none.
-- KEYS: topics   ARGV: most messages in a queue (0: any number), microseconds that a broadcast can be read, number of
-- topics, their names, then for each message the number of its topic, 'k' and its key (or nothing), and its body.
-- Answers the topics' {group: queue}, or {'unknown', topic}, or {'full', queue}.
local most, readable, topics = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local known = redis.call('HMGET', KEYS[1], unpack(ARGV, 4, 3 + topics))
local queues, listeners = {}, {}
for topic = 1, topics do
  if not known[topic] then
    return {'unknown', ARGV[3 + topic]}
  end
  local mine = {}
  for group, queue in pairs(cjson.decode(known[topic])) do
    if group == '' then
      listeners[topic] = queue
    elseif most > 0 and redis.call('XLEN', queue) >= most then
      return {'full', queue}
    else
      mine[#mine + 1] = queue
    end
  end
  queues[topic] = mine
end

local oldest = number((clock() - readable) / 1000)
local used = {}

local function append(queue, id, key, body)
  if key == '' then
    return redis.pcall('XADD', queue, id, 'b', body)
  end
  return redis.pcall('XADD', queue, id, 'b', body, 'k', string.sub(key, 2))
end

for index = 4 + topics, #ARGV, 3 do
  local topic, key, body = tonumber(ARGV[index]), ARGV[index + 1], ARGV[index + 2]
  local id = '*'
  used[topic] = true
  for _, queue in ipairs(queues[topic]) do
    local added = append(queue, id, key, body)
    if type(added) == 'table' and id ~= '*' then
      added = append(queue, '*', key, body)  -- the others have their id; this queue has seen a later one
    end
    if type(added) == 'table' then
      return added
    end
    id = added
  end
  if listeners[topic] then
    local added = append(listeners[topic], '*', key, body)
    if type(added) == 'table' then
      return added
    end
  end
end
for topic in pairs(used) do
  for _, queue in ipairs(queues[topic]) do
    ring(queue)
  end
  if listeners[topic] then
    redis.call('XTRIM', listeners[topic], 'MINID', '~', oldest)
  end
end
return known
