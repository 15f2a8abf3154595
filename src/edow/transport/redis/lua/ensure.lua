-- Add groups to topics, making what is missing.
-- KEYS: topics, queues...   ARGV: for each topic its name and {group: queue} in JSON
for index = 1, #ARGV, 2 do
  local known = redis.call('HGET', KEYS[1], ARGV[index])
  local groups = known and cjson.decode(known) or {}
  for group, queue in pairs(cjson.decode(ARGV[index + 1])) do
    groups[group] = queue
  end
  redis.call('HSET', KEYS[1], ARGV[index], cjson.encode(groups))
end
local run = run_id()
for index = 2, #KEYS do
  if run then
    redis.call('SET', KEYS[index] .. ':run', run, 'NX')
  end
end
