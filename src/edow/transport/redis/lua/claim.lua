-- Take messages for an owner, from each queue in turn: first those that come again, then new ones.
-- KEYS: topics, queues...   ARGV: owner, lease in microseconds, most messages, most bytes, then for each queue its
-- topic and group.
-- Answers {'ok' or 'gone', 1 if there may be more at once, microseconds until something is due (-1: nothing is),
-- {for each message: number of its queue, id, deliveries, key, body}}. Gone: a topic or group that is not known.
local owner, lease = ARGV[1], tonumber(ARGV[2])
local want, room = tonumber(ARGV[3]), tonumber(ARGV[4])
local now = clock()
local MISS = 8 * want + 1000  -- new messages looked at in one call that must wait for another of their key
local sight = room  -- bytes of new messages that are looked at in one call, whether or not they are taken
local items, more, due = {}, false, nil

local function contents(fields)
  local body, key
  for index = 1, #fields, 2 do
    if fields[index] == 'b' then
      body = fields[index + 1]
    elseif fields[index] == 'k' then
      key = fields[index + 1]
    end
  end
  return body or cjson.encode(fields), key or false  -- without a body somebody else has put it there: poison
end

local function add(number_of_queue, id, count, key, body)
  local at = #items
  items[at + 1], items[at + 2], items[at + 3], items[at + 4], items[at + 5] = number_of_queue, id, count, key, body
  want, room = want - 1, room - #body
end

-- The server was away, and nobody could extend: what its members hold now they hold for another lease.
local function server_is_new(queue)
  local run = run_id()
  local last = redis.call('GET', queue .. ':run')
  if not run or last == run then
    return false
  end
  redis.call('SET', queue .. ':run', run)
  return last
end

local function prolong(queue)
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', queue .. ':owners', '-inf', number(now))) do
    local held, again = queue .. ':leases:' .. other, now + tonumber(string.match(other, '^%d+'))
    add_all(held, number(again), redis.call('ZRANGEBYSCORE', held, '-inf', number(now)))
    redis.call('ZADD', queue .. ':owners', number(again), other)
  end
end

-- Ids whose leases have ended; they are nobody's then.
local function expired(queue)
  local ids = {}
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', queue .. ':owners', '-inf', number(now), 'LIMIT', 0, 100)) do
    local held = queue .. ':leases:' .. other
    local late = redis.call('ZRANGEBYSCORE', held, '-inf', number(now), 'LIMIT', 0, math.max(0, want - #ids))
    if #late > 0 then
      if server_is_new(queue) then
        prolong(queue)
        return ids
      end
      in_steps(late, 'ZREM', held)
      for _, id in ipairs(late) do
        ids[#ids + 1] = id
      end
    end
    local first = redis.call('ZRANGE', held, 0, 0, 'WITHSCORES')[2]
    if first then
      redis.call('ZADD', queue .. ':owners', first, other)
    else
      redis.call('ZREM', queue .. ':owners', other)
    end
  end
  return ids
end

local function is_due(queue, most)
  local ids = redis.call('ZRANGEBYSCORE', queue .. ':due', '-inf', number(now), 'LIMIT', 0, most)
  in_steps(ids, 'ZREM', queue .. ':due')
  return ids
end

-- Deleted or trimmed by somebody else: nothing may wait for them.
local function forget(queue, ids)
  local lost = {}
  for _, id in ipairs(ids) do
    lost[id] = true
  end
  in_steps(ids, 'HDEL', queue .. ':counts')
  local gates = redis.call('HGETALL', queue .. ':gate')
  for index = 1, #gates, 2 do
    if lost[gates[index + 1]] then
      let_follow(queue, gates[index])
      more = true
    end
  end
end

-- Add what these ids stand for. Returns those that were added, and those that there was no room for.
local function again(queue, number_of_queue, ids, times)
  local taken, missing, left = {}, {}, {}
  for _, id in ipairs(ids) do
    if room <= 0 then
      left[#left + 1] = id
    else
      local entry = redis.call('XRANGE', queue, id, id)[1]
      if entry then
        local body, key = contents(entry[2])
        add(number_of_queue, id, times(id), key, body)
        taken[#taken + 1] = id
      else
        missing[#missing + 1] = id
      end
    end
  end
  if #missing > 0 then
    forget(queue, missing)
  end
  return taken, left
end

-- Which of the entries' keys have a message at their gate, for those not asked about before.
local function look_at_gates(queue, entries, gates)
  local keys = {}
  for _, entry in ipairs(entries) do
    local _, key = contents(entry[2])
    if key and gates[key] == nil then
      keys[#keys + 1] = key
      gates[key] = false
    end
  end
  if #keys > 0 then
    for index, id in ipairs(redis.call('HMGET', queue .. ':gate', unpack(keys))) do
      gates[keys[index]] = id
    end
  end
end

-- Read on from the head. Returns what was taken, and whether there may be more.
local function fresh(queue, number_of_queue)
  local head = redis.call('GET', queue .. ':head') or '0-0'
  local taken, gates, passed, behind, looked, piece = {}, {}, {}, {}, 0, 16
  local before, done, seen = head, false, 0
  while want > 0 and room > 0 and sight > 0 and looked - #taken < MISS and not done do
    local asked = looked > #taken and piece or math.min(piece, want)
    if seen > 0 then
      asked = math.max(1, math.min(asked, math.floor(sight * looked / seen)))  -- if they are as large as those before
    end
    local entries = redis.call('XRANGE', queue, '(' .. head, '+', 'COUNT', asked)
    done, piece = #entries < asked, math.min(4 * piece, STEP)
    look_at_gates(queue, entries, gates)
    for _, entry in ipairs(entries) do
      if want <= 0 or room <= 0 then
        done = false
        break
      end
      local id, body, key = entry[1], contents(entry[2])
      head, looked, seen, sight = id, looked + 1, seen + #body, sight - #body
      if key and gates[key] then
        behind[key] = behind[key] or {}
        table.insert(behind[key], id)
      else
        if key then
          gates[key] = id
          passed[#passed + 1] = key
          passed[#passed + 1] = id
        end
        taken[#taken + 1] = id
        add(number_of_queue, id, 1, key, body)
      end
    end
  end
  if head ~= before then
    redis.call('SET', queue .. ':head', head)
  end
  in_steps(passed, 'HSET', queue .. ':gate')
  for key, ids in pairs(behind) do
    in_steps(ids, 'RPUSH', queue .. ':behind:' .. key)
  end
  return taken, not done
end

local function hold(queue, ids)
  if #ids > 0 then
    add_all(queue .. ':leases:' .. owner, number(now + lease), ids)
    redis.call('ZADD', queue .. ':owners', 'LT', number(now + lease), owner)
  end
end

local function once()
  return 1
end

local function claim(queue, number_of_queue)
  local function counted(id)
    return redis.call('HINCRBY', queue .. ':counts', id, 1) + 1
  end
  local ids = expired(queue)
  if #ids < want then
    for _, id in ipairs(is_due(queue, want - #ids)) do
      ids[#ids + 1] = id
    end
  end
  local taken, left = again(queue, number_of_queue, ids, counted)
  hold(queue, taken)
  add_all(queue .. ':due', number(now), left)
  if want > 0 and room > 0 then
    taken, left = again(queue, number_of_queue, redis.call('LPOP', queue .. ':free', want) or {}, once)
    hold(queue, taken)
    in_steps(left, 'RPUSH', queue .. ':free')
  end
  local rest = true
  if want > 0 and room > 0 then
    ids, rest = fresh(queue, number_of_queue)
    hold(queue, ids)
  end
  if rest then
    more = true
    ring(queue)
  end
end

local function sooner(moment)
  if moment and (not due or tonumber(moment) < due) then
    due = tonumber(moment)
  end
end

local function is_known(queue, topic, group)
  local groups = redis.call('HGET', KEYS[1], topic)
  return groups and cjson.decode(groups)[group] == queue
end

for index = 2, #KEYS do
  local queue = KEYS[index]
  if want > 0 and room > 0 then
    claim(queue, index - 2)
  elseif redis.call('XLEN', queue) > 0 then
    more = true
    ring(queue)
  end
  sooner(redis.call('ZRANGE', queue .. ':owners', 0, 0, 'WITHSCORES')[2])
  sooner(redis.call('ZRANGE', queue .. ':due', 0, 0, 'WITHSCORES')[2])
end
local state = 'ok'
if #items == 0 then
  for index = 2, #KEYS do
    if not is_known(KEYS[index], ARGV[2 * index + 1], ARGV[2 * index + 2]) then
      state = 'gone'
    end
  end
end
return {state, more and 1 or 0, due and math.max(0, due - now) or -1, items}
