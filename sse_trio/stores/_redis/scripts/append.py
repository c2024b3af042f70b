# The script that appends a group, trims, and sweeps. The rules and the keys are in __init__.py.
#
# Over 250 lines, because a script is one text: dividing it would separate its parts from the variables that they share.

from __future__ import annotations

from .state import STATE

__all__ = ("APPEND",)

# ARGV: 4 now in seconds, 5 writer, 6 number of the group, 7 seconds to remember keys; limits (-1 for none): 8-10 of the
# hub (events, bytes, age in seconds), 11 the shortest and 12 the longest age of any event;
# 13 how many ended topics, and prefixes, to remember; 14 seconds to remember a group; 15 the number of patterns with
# limits of their own, then each of them and its events, bytes and age. Then for each append: the name of its key or '',
# '' or '1' for a claim, the number of its events; of a claim its topic, the token expected ('' for none), the new one
# ('' for none), value and seconds ('' for as it was), and '1' to clear; a topic and a payload for each event.
# Without a writer there are no appends: the script only trims what is too old. Then follows each of the ages that
# only some topics have, and the sequence up to which it was looked at for that age.
# Answer: epoch, sequence, then for each append the sequence of its first event and the number of its events; -1 as the
# number if the token is another, -2 if there is more to clear. Without a writer 1 if nothing is left to look at, or 0,
# and for each age the sequence up to which it was looked at.
APPEND = (
    STATE
    + """
local now, remember = tonumber(ARGV[4]), ARGV[7]
local writer_key, group = root .. 'writer:' .. ARGV[5], tonumber(ARGV[6])
local hub_events, hub_bytes, hub_age = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local shortest_age, longest_age = tonumber(ARGV[11]), tonumber(ARGV[12])
local cuts_stay, at, again = longest_age, 16, ARGV[14]

local no_limits = {events = -1, bytes = -1, age = -1}
local by_name, by_prefix, lengths = {}, {}, {}
for _ = 1, tonumber(ARGV[15]) do
  local pattern = ARGV[at]
  local limits = {events = tonumber(ARGV[at + 1]), bytes = tonumber(ARGV[at + 2]), age = tonumber(ARGV[at + 3])}
  if string.sub(pattern, -1) == '*' then
    by_prefix[string.sub(pattern, 1, -2)] = limits
    lengths[#lengths + 1] = #pattern - 1
  else
    by_name[pattern] = limits
  end
  if limits.age >= 0 then cuts_stay = 2 * longest_age end  -- their events may go a little later
  at = at + 4
end
table.sort(lengths, function(one, other) return one > other end)

local function limits_of(topic)
  if by_name[topic] then return by_name[topic] end
  for _, length in ipairs(lengths) do
    local found = by_prefix[string.sub(topic, 1, length)]
    if found then return found end
  end
  return no_limits
end

local function last_of(results)
  local newest = 0
  for n = 1, #results, 2 do newest = math.max(newest, tonumber(results[n]) + tonumber(results[n + 1]) - 1) end
  return newest
end

local last = ARGV[5] ~= '' and redis.call('GET', writer_key)
if last then
  local answer = cjson.decode(last)
  if answer.group > group then return redis.error_reply('STALE this group was given up by its writer') end
  if answer.group == group and is_ours(answer.epoch, last_of(answer.results)) then
    redis.call('EXPIRE', writer_key, again)  -- a write, for which WAIT waits
    return {epoch, whole(seq), unpack(answer.results)}
  end
end

local grown, gone = {}, {}

local function begin_topic(topic)
  if not grown[topic] then
    grown[topic] = true
    if not redis.call('ZSCORE', live, topic) then
      redis.call('ZADD', live, redis.call('ZSCORE', ended, topic) or whole(floor), topic)
      redis.call('ZREM', ended, topic)
    end
  end
end

local function add(topic, payload)
  begin_topic(topic)
  seq, count, bytes = seq + 1, count + 1, bytes + #payload
  local id = whole(seq) .. '-0'
  time = math.max(time, now)
  redis.call('XADD', log, id, 't', topic, 'p', payload, 'm', string.format('%.6f', time), 'e', epoch)
  redis.call('XADD', key('topic:' .. topic), id, 'i', '')
  redis.call('HINCRBY', sizes, topic, #payload)
  if string.byte(payload) == 58 then  -- a colon
    local at = string.match(payload, '^:expires (%-?%d+%.%d+)\\n')
    if at then expiring = expiring + redis.call('ZADD', key('expires'), at, whole(seq) .. ' ' .. topic) end
  end
end

local function end_topic(topic)
  redis.call('ZADD', ended, redis.call('ZSCORE', live, topic), topic)
  redis.call('ZREM', live, topic)
  redis.call('HDEL', sizes, topic)
  redis.call('DEL', key('topic:' .. topic))
end

local function note_prefixes(topic, sequence)
  local slash = string.find(topic, '/', 1, true)
  for _ = 1, LEVELS do
    if not slash then return end
    local prefix = string.sub(topic, 1, slash)
    gone[prefix] = math.max(gone[prefix] or prefix_floor, sequence)
    slash = string.find(topic, '/', slash + 1, true)
  end
end

local function forget_expiry(topic, sequence)
  if expiring > 0 then expiring = expiring - redis.call('ZREM', key('expires'), whole(sequence) .. ' ' .. topic) end
end

local function drop(id, topic, size)
  local index, sequence = key('topic:' .. topic), tonumber(string.match(id, '^%d+'))
  forget_expiry(topic, sequence)
  redis.call('XDEL', log, id)
  redis.call('XDEL', index, id)
  redis.call('HINCRBY', sizes, topic, 0 - size)
  redis.call('ZADD', live, whole(sequence), topic)
  note_prefixes(topic, sequence)
  count, bytes, trimmed = count - 1, bytes - size, math.max(trimmed, sequence)
  if redis.call('XLEN', index) == 0 then end_topic(topic) end
end

local function is_held(topic) return holds > 0 and redis.call('HGET', tokens, topic) end

local function move(id, topic, payload)
  local sequence = tonumber(string.match(id, '^%d+'))
  redis.call('XDEL', log, id)
  redis.call('HSET', kept, whole(sequence), payload)
  forget_expiry(topic, sequence)
  note_prefixes(topic, sequence)
  count, bytes, trimmed = count - 1, bytes - #payload, math.max(trimmed, sequence)
end

local function clear(topic)
  -- Return whether nothing is left.
  local index = key('topic:' .. topic)
  for _, entry in ipairs(redis.call('XRANGE', index, '-', '+', 'COUNT', 1000)) do
    local id = entry[1]
    local found = redis.call('XRANGE', log, id, id)[1]
    if found then
      drop(id, topic, #found[2][4])
    else
      local sequence = string.match(id, '^%d+')
      redis.call('HDEL', kept, sequence)
      redis.call('XDEL', index, id)
      redis.call('ZADD', live, sequence, topic)
      if redis.call('XLEN', index) == 0 then end_topic(topic) end
    end
  end
  grown[topic] = nil
  return redis.call('XLEN', index) == 0
end

local function allows(claim)
  return claim.expected == '*' or claim.expected == (redis.call('HGET', tokens, claim.topic) or '')
end

local function change(claim, last)
  if claim.token == '*' then return end
  if claim.token == '' then
    holds = holds - redis.call('HDEL', tokens, claim.topic)
    redis.call('HDEL', values, claim.topic)
    redis.call('ZREM', due, claim.topic)
    return
  end
  if claim.token ~= claim.expected then
    holds = holds + redis.call('HSET', tokens, claim.topic, claim.token)
  end
  if claim.value ~= '' then redis.call('HSET', values, claim.topic, whole(last) .. ' ' .. claim.value) end
  if claim.seconds ~= '' then
    local clock = redis.call('TIME')
    local at = tonumber(clock[1]) + tonumber(clock[2]) / 1000000 + tonumber(claim.seconds)
    redis.call('ZADD', due, string.format('%.6f', at), claim.topic)
  end
end

local function exceeded(events, size, max_events, max_bytes)
  return (max_events >= 0 and events > max_events) or (max_bytes >= 0 and size > max_bytes and events > 1)
end

local function oldest()
  return unpack(redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1])
end

local cuts = {}
for upto, at in string.gmatch(meta[11] or '', '(%d+):(%S+)') do cuts[#cuts + 1] = {tonumber(upto), tonumber(at)} end

local function time_of(sequence, stamp)
  if stamp > now then
    for _, cut in ipairs(cuts) do
      if sequence <= cut[1] then return math.min(stamp, cut[2]) end
    end
  end
  return stamp
end

local function is_older(id, stamp, age)
  return age >= 0 and time_of(tonumber(string.match(id, '^%d+')), tonumber(stamp)) < now - age
end

local function trim_topic(topic)
  if is_held(topic) then return end
  local index, limits = key('topic:' .. topic), limits_of(topic)
  local function size() return tonumber(redis.call('HGET', sizes, topic) or 0) end
  while true do
    local is_over = exceeded(redis.call('XLEN', index), size(), limits.events, limits.bytes)
    if not is_over and limits.age < 0 then return end
    local id = redis.call('XRANGE', index, '-', '+', 'COUNT', 1)[1][1]
    local entry = redis.call('XRANGE', log, id, id)[1]
    if not (is_over or is_older(id, entry[2][6], limits.age)) then return end
    drop(id, topic, #entry[2][4])
  end
end

local function see_clock()
  if shortest_age < 0 or count == 0 then return end
  local _, fields = oldest()
  local latest = math.max(time, tonumber(fields[6]))
  if latest <= now then
    cuts = {}
  elseif latest > now + math.min(1, shortest_age / 10) then
    while #cuts > 0 and cuts[#cuts][2] > now do table.remove(cuts) end
    if #cuts > 0 and cuts[#cuts][1] >= seq then return end
    if #cuts > 1 and now - cuts[#cuts - 1][2] < longest_age / 100 then table.remove(cuts) end
    cuts[#cuts + 1] = {seq, now}
  end
end

local function trim_hub()
  while count > 0 do
    local id, fields = oldest()
    if not (is_older(id, fields[6], hub_age) or exceeded(count, bytes, hub_events, hub_bytes)) then return end
    if is_held(fields[2]) then move(id, fields[2], fields[4]) else drop(id, fields[2], #fields[4]) end
  end
end

local left_to_look_at = LOOKED_AT

local function sweep(age, upto)
  -- Drop what is too old of the topics that have this age, and return the sequence up to which that was done.
  while left_to_look_at > 0 do
    local entries = redis.call('XRANGE', log, whole(upto + 1) .. '-0', '+', 'COUNT', 100)
    if #entries == 0 then return upto end
    for _, entry in ipairs(entries) do
      local id, topic = entry[1], entry[2][2]
      if not is_older(id, entry[2][6], age) then return upto end
      if limits_of(topic).age == age and not is_held(topic) then drop(id, topic, #entry[2][4]) end
      upto = tonumber(string.match(id, '^%d+'))
      left_to_look_at = left_to_look_at - 1
    end
  end
  return upto
end

local function written_cuts()
  local words = {}
  for _, cut in ipairs(cuts) do words[#words + 1] = whole(cut[1]) .. ':' .. string.format('%.6f', cut[2]) end
  return table.concat(words, ' ')
end

-- First, because what has expired counts no more against any limit.
if expiring > 0 then
  local found = redis.call('ZRANGE', key('expires'), 0, 999, 'WITHSCORES')
  for n = 1, #found, 2 do
    if tonumber(found[n + 1]) > now then break end
    local sequence, topic = string.match(found[n], '^(%d+) (.*)$')
    local id, index = sequence .. '-0', key('topic:' .. topic)
    local entry = redis.call('XRANGE', log, id, id)[1]
    if entry then  -- otherwise it was trimmed
      local size = #entry[2][4]
      redis.call('XDEL', log, id)
      redis.call('XDEL', index, id)
      redis.call('HINCRBY', sizes, topic, 0 - size)
      count, bytes = count - 1, bytes - size
      if redis.call('XLEN', index) == 0 then end_topic(topic) end
    end
    expiring = expiring - redis.call('ZREM', key('expires'), found[n])
  end
end

local results = {}
if ARGV[5] == '' then
  for n = at, #ARGV, 2 do results[#results + 1] = whole(sweep(tonumber(ARGV[n]), tonumber(ARGV[n + 1]))) end
  table.insert(results, 1, left_to_look_at > 0 and '1' or '0')
  at = #ARGV + 1
end
while at <= #ARGV do
  local name, claim, events = ARGV[at], nil, tonumber(ARGV[at + 2])
  local refused
  if ARGV[at + 1] ~= '' then
    claim = {topic = ARGV[at + 3], expected = ARGV[at + 4], token = ARGV[at + 5], value = ARGV[at + 6],
      seconds = ARGV[at + 7], clear = ARGV[at + 8] ~= ''}
    at = at + 6
    if not allows(claim) then
      refused = '-1'
    elseif claim.clear and not clear(claim.topic) then
      refused = '-2'
    else
      change(claim, seq + events)
    end
  end
  local known = name ~= '' and redis.call('GET', root .. 'key:' .. name)
  local key_epoch, key_first, key_events = string.match(known or '', '^(%S+) (%d+) (%d+)$')
  if refused then
    results[#results + 1], results[#results + 2] = '0', refused
  elseif key_epoch and is_ours(key_epoch, tonumber(key_first) + tonumber(key_events) - 1) then
    results[#results + 1], results[#results + 2] = key_first, key_events
  else
    results[#results + 1], results[#results + 2] = whole(seq + 1), whole(events)
    if name ~= '' then
      local answer = epoch .. ' ' .. whole(seq + 1) .. ' ' .. whole(events)
      redis.call('SET', root .. 'key:' .. name, answer, 'EX', remember)
    end
    for n = 0, events - 1 do add(ARGV[at + 3 + 2 * n], ARGV[at + 4 + 2 * n]) end
  end
  at = at + 3 + 2 * events
end

for topic in pairs(grown) do trim_topic(topic) end
see_clock()
trim_hub()
while cuts[1] and cuts[1][2] < now - cuts_stay do table.remove(cuts, 1) end  -- their events have gone
for prefix, sequence in pairs(gone) do redis.call('ZADD', prefixes, 'GT', whole(sequence), prefix) end
while redis.call('ZCARD', prefixes) > tonumber(ARGV[13]) do
  prefix_floor = math.max(prefix_floor, tonumber(redis.call('ZPOPMIN', prefixes)[2]))
end
while redis.call('ZCARD', ended) > tonumber(ARGV[13]) do
  floor = math.max(floor, tonumber(redis.call('ZPOPMIN', ended)[2]))
end
redis.call('HSET', meta_key, 'seq', whole(seq), 'count', whole(count), 'bytes', whole(bytes),
  'trimmed', whole(trimmed), 'floor', whole(floor), 'pfloor', whole(prefix_floor), 'noted', whole(seq - count),
  'time', string.format('%.6f', time), 'cuts', written_cuts(), 'holds', whole(holds), 'expiring', whole(expiring))
if ARGV[5] ~= '' then
  redis.call('SET', writer_key, cjson.encode({group = group, epoch = epoch, results = results}), 'EX', again)
end
return {epoch, whole(seq), unpack(results)}
"""
)
