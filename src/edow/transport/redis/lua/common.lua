-- What the scripts share; it stands before each of them.
--
-- A queue is what one group has yet to acknowledge of one topic: a stream that bears the queue's name, and beside it
--   :head      id of the last message that anybody has looked at
--   :leases:O  what owner O holds, by the moment at which each lease ends (microseconds, this server's clock)
--   :owners    who may hold something, by a moment before which no lease of theirs ends
--   :due       messages to be delivered again, by the moment from which
--   :free      messages whose predecessor was acknowledged: not delivered yet, deliverable now
--   :gate      for every key with a message that is held, due or free: that message
--   :behind:K  messages of key K that wait for the one at the gate, in order
--   :counts    how often a message was delivered before, for those that were
--   :bell      one element when there may be something to deliver and nobody was told
--   :run       the server's run id when leases were last checked: it changes when the server starts anew
-- Everything of it goes away with the messages, except :head, :run and the empty stream.

local STEP = 1000  -- ids given to one command; Lua cannot unpack many thousands

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function number(value)
  return string.format('%.0f', value)
end

-- `command key ... list`, in pieces
local function in_steps(list, command, key, ...)
  for first = 1, #list, STEP do
    local arguments = {...}
    for index = first, math.min(first + STEP - 1, #list) do
      arguments[#arguments + 1] = list[index]
    end
    redis.call(command, key, unpack(arguments))
  end
end

-- `ZADD key ... score id` for every id
local function add_all(key, score, ids, ...)
  local pairs_of = {}
  for index = 1, #ids do
    pairs_of[2 * index - 1], pairs_of[2 * index] = score, ids[index]
  end
  in_steps(pairs_of, 'ZADD', key, ...)
end

-- One of those who wait will look.
local function ring(queue)
  if redis.call('LLEN', queue .. ':bell') == 0 then
    redis.call('LPUSH', queue .. ':bell', 1)
  end
end

-- The message at the key's gate is gone: the next may be delivered. Tells whether there is one.
local function let_follow(queue, key)
  local following = redis.call('LPOP', queue .. ':behind:' .. key)
  if not following then
    redis.call('HDEL', queue .. ':gate', key)
    return false
  end
  redis.call('HSET', queue .. ':gate', key, following)
  redis.call('RPUSH', queue .. ':free', following)
  return true
end

-- nil where this user may not ask
local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or nil
end
