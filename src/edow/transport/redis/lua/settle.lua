-- What becomes of messages that an owner holds. What it does not hold (any more) is left as it is.
-- KEYS: topics, queues...   ARGV: 'ack', 'nack', 'extend' or 'leave', owner, microseconds (delay or lease), then for
-- each queue the number of messages, their ids, and for 'ack' their keys ('k' and the key, or nothing).
-- Answers the positions, from 0, of the messages that the owner did not hold. 'leave' gives back all that it holds.
local verb, owner = ARGV[1], ARGV[2]
local moment = number(clock() + tonumber(ARGV[3]))
local lost, position = {}, 0

local function ack(queue, held, ids, keys)
  in_steps(ids, 'ZREM', held)
  in_steps(ids, 'XDEL', queue)
  in_steps(ids, 'HDEL', queue .. ':counts')
  local follows = false
  for _, key in ipairs(keys) do
    follows = let_follow(queue, key) or follows
  end
  if follows then
    ring(queue)
  end
end

-- Also rings for what is due later: whoever hears it will know when to look.
local function nack(queue, held, ids)
  in_steps(ids, 'ZREM', held)
  add_all(queue .. ':due', moment, ids)
  ring(queue)
end

local function settle(queue, ids, keys)
  local held = queue .. ':leases:' .. owner
  if #ids == 0 then
    return
  elseif verb == 'ack' then
    ack(queue, held, ids, keys)
  elseif verb == 'nack' then
    nack(queue, held, ids)
  else
    add_all(held, moment, ids, 'XX')
  end
end

local function leave(queue)
  local held = queue .. ':leases:' .. owner
  local ids = redis.call('ZRANGE', held, 0, -1)
  if #ids > 0 then
    nack(queue, held, ids)
  end
  redis.call('ZREM', queue .. ':owners', owner)
end

local at = 4
for index = 2, #KEYS do
  local queue, count = KEYS[index], verb == 'leave' and 0 or tonumber(ARGV[at])
  local ids, keys = {}, {}
  for first = at + 1, at + count, STEP do
    local last = math.min(first + STEP - 1, at + count)
    for offset, score in ipairs(redis.call('ZMSCORE', queue .. ':leases:' .. owner, unpack(ARGV, first, last))) do
      local place = first + offset - 1
      if not score then
        lost[#lost + 1] = position
      else
        ids[#ids + 1] = ARGV[place]
        if verb == 'ack' and ARGV[place + count] ~= '' then
          keys[#keys + 1] = string.sub(ARGV[place + count], 2)
        end
      end
      position = position + 1
    end
  end
  if verb == 'leave' then
    leave(queue)
  else
    settle(queue, ids, keys)
  end
  at = at + 1 + (verb == 'ack' and 2 or 1) * count
end
return lost
