# The Lua scripts that run inside Redis, each of them atomically: one appends, one reads events, and one the records of
# held topics.
#
# Over 250 lines, because a script is one text: splitting a script would separate its parts from the variables that
# they share.
#
# Rule 1: these are the keys of a hub. All have the hash tag {name}, so that a cluster keeps them on one node:
#           {name}:meta              hash: generation, epoch, seq, count, bytes, trimmed, floor, pfloor, noted, time,
#                                    cuts ("sequence:time ...", see _cuts.py), holds (the number of held topics),
#                                    expiring (the number of events that expire),
#                                    format (1, or missing; the format's page is docs/store-format.md),
#                                    past ("epoch sequence ...": earlier epochs, and up to where their ids are good),
#                                    primary (the replication id of the server, where a replica may take its place)
#           {name}:G:log             stream: every event of the hub, with the id <sequence>-0
#           {name}:G:topic:T         stream: the same ids, nothing else: the index of topic T
#           {name}:G:live            sorted set: topics that have events, by the newest event that is gone
#           {name}:G:ended           the same for topics that have no event left
#           {name}:G:prefixes        sorted set: prefixes of topics, by the newest event that is gone below them
#           {name}:G:bytes           hash: bytes of payload of each topic
#           {name}:G:tokens          hash: the token of each held topic (see _holds.py)
#           {name}:G:values          hash: "sequence value" of each held topic
#           {name}:G:due             sorted set: held topics, by the time of Redis when they are due
#           {name}:G:expires         sorted set: "sequence topic" of events that expire, by when (see _expiry.py)
#           {name}:G:kept            hash: payloads of held topics, by sequence, that the limits took from the log
#           {name}:key:P:N           string: the answer to the append with the key (P, N)
#           {name}:writer:W          string: the answer to the last group of writer W
#         The payload is kept once, in the log. G is the generation: all its keys belong to one history.
# Rule 2: the sequence is our own counter, not Redis' clock. So the numbers in the log have holes only where events were
#         trimmed. A reader that sees no hole has missed nothing, and needs no script.
# Rule 3: the next script notices a lost history. If meta is missing, or the log has another number of events than meta
#         says (evicted, deleted by hand), there is a new generation and a new epoch. If the sequence is below one that
#         a process has seen (a restart from an old snapshot, a failover to a replica that lagged), a new epoch; also
#         at each failover, before anything is appended, or a number could be given twice. Then ids of earlier epochs
#         are good up to where their history goes on.
# Rule 4: a group that arrives again is not appended again. A group that arrives late, after its writer gave up and sent
#         another, is refused.
# Rule 5: the cost of a script depends on what it looks at, never on the number of topics that there are or were.
#         A topic is cleared a thousand events at a time; the answer AGAIN (-2) says that there are more.
# Rule 6: ages are computed as in _cuts.py, line for line.
# Rule 7: an older release that works on the same hub notes no ends of prefixes. `noted` is the number of events that
#         were gone when a script of this release last wrote. If that number has changed, the newest event gone counts
#         for every prefix: a gap too many rather than one too few.

from __future__ import annotations

from .._ends import LEVELS

__all__ = ("ADOPT", "APPEND", "HOLDS", "READ")

# ARGV of all: 1 a name for a new epoch, 2 and 3 the newest id that this process has seen.
_STATE = """
local meta_key = KEYS[1]
local root = string.sub(meta_key, 1, -5)  -- without "meta"
local function whole(number) return string.format('%.0f', number) end

local meta = redis.call('HMGET', meta_key, 'generation', 'epoch', 'seq', 'count', 'bytes', 'trimmed', 'floor', 'pfloor',
  'noted', 'time', 'cuts', 'holds', 'format', 'expiring', 'past')
if meta[13] and meta[13] ~= '1' then
  return redis.error_reply('FORMAT this hub was written by a newer release, in format ' .. meta[13])
end
local generation, epoch = meta[1], meta[2]
local seq, count, bytes = tonumber(meta[3] or 0), tonumber(meta[4] or 0), tonumber(meta[5] or 0)
local trimmed, floor, prefix_floor = tonumber(meta[6] or 0), tonumber(meta[7] or 0), tonumber(meta[8] or 0)
local noted, time, holds = tonumber(meta[9] or 0), tonumber(meta[10] or 0), tonumber(meta[12] or 0)
local expiring, past = tonumber(meta[14] or 0), meta[15] or ''
local function key(name) return root .. generation .. ':' .. name end

local function begin_epoch()
  -- What came after `seq` is gone. Ids of the epoch that ends are good up to there.
  local kept = {epoch .. ' ' .. whole(seq)}
  for name, upto in string.gmatch(past, '(%S+) (%d+)') do
    if #kept < 20 then kept[#kept + 1] = name .. ' ' .. upto end
  end
  past, epoch = table.concat(kept, ' '), ARGV[1]
  redis.call('HSET', meta_key, 'epoch', epoch, 'past', past)
end

local function is_ours(of_epoch, sequence)
  -- Return whether an id is one of this history. A later epoch may have begun before the end of an earlier one.
  local good_to = seq
  if of_epoch == epoch then return sequence <= good_to end
  for name, upto in string.gmatch(past, '(%S+) (%d+)') do
    good_to = math.min(good_to, tonumber(upto))
    if name == of_epoch then return sequence <= good_to end
  end
  return false
end

if not generation or redis.call('XLEN', key('log')) ~= count then
  generation, epoch = ARGV[1], ARGV[1]
  seq, count, bytes, trimmed, floor, prefix_floor, noted, time, holds, expiring = 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
  meta, past = {}, ''
  redis.call('DEL', meta_key)
  redis.call('HSET', meta_key, 'format', 1, 'generation', generation, 'epoch', epoch, 'seq', 0, 'count', 0)
elseif epoch == ARGV[2] and seq < tonumber(ARGV[3]) then
  begin_epoch()
end

if noted ~= seq - count then prefix_floor = trimmed end

local log, live, ended, sizes = key('log'), key('live'), key('ended'), key('bytes')
local prefixes, tokens, values = key('prefixes'), key('tokens'), key('values')
local due, kept = key('due'), key('kept')
local LEVELS = {levels}  -- of a topic that are prefixes of which the end is noted
local LOOKED_AT = 2000  -- entries that one call looks at for their age
""".replace("{levels}", str(LEVELS))

# ARGV: 4 now in seconds, 5 writer, 6 number of the group, 7 seconds to remember keys; limits (-1 for none): 8-10 of the
# hub (events, bytes, age in seconds), 11 the shortest and 12 the longest age of any event;
# 13 how many ended topics, and prefixes, to remember; 14 the number of patterns with limits of their own, then each of
# them and its events, bytes and age. Then for each append: the name of its key or '', '' or '1' for a claim, the number
# of its events; of a claim its topic, the token expected ('' for none), the new one ('' for none), value and seconds
# ('' for as it was), and '1' to clear; a topic and a payload for each event.
# Without a writer there are no appends: the script only trims what is too old. Then follows each of the ages that
# only some topics have, and the sequence up to which it was looked at for that age.
# Answer: epoch, sequence, then for each append the sequence of its first event and the number of its events; -1 as the
# number if the token is another, -2 if there is more to clear. Without a writer 1 if nothing is left to look at, or 0,
# and for each age the sequence up to which it was looked at.
APPEND = (
    _STATE
    + """
local now, remember = tonumber(ARGV[4]), ARGV[7]
local writer_key, group = root .. 'writer:' .. ARGV[5], tonumber(ARGV[6])
local hub_events, hub_bytes, hub_age = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local shortest_age, longest_age = tonumber(ARGV[11]), tonumber(ARGV[12])
local cuts_stay, at = longest_age, 15

local no_limits = {events = -1, bytes = -1, age = -1}
local by_name, by_prefix, lengths = {}, {}, {}
for _ = 1, tonumber(ARGV[14]) do
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

local again = whole(math.max(600, tonumber(remember)))  -- longer than a group is sent again, however short keys last

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

local function drop(id, topic, size)
  local index, sequence = key('topic:' .. topic), tonumber(string.match(id, '^%d+'))
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

# ARGV: 4 'after' or 'last', 5 and 6 the id to read after ('' and -1 for none), or '' and the sequence to read back
# from, 7 the sequence up to which the asker knows of gaps, 8 the number of events, 9 the number of entries to look at,
# 10 the number of exact topics, then these, then prefixes.
# Answer: generation, epoch, sequence, trimmed_to, 1 if events were missed, up to where these are all, then for each
# event its sequence, topic and payload.
READ = (
    _STATE
    + """
local after_epoch, after, told = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])
local limit, scan, exact = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])

local wanted, asked_prefixes = {}, {}
for n = 11, 10 + exact do wanted[ARGV[n]] = true end
for n = 11 + exact, #ARGV do asked_prefixes[#asked_prefixes + 1] = ARGV[n] end

local function matches_prefix(topic)
  for _, prefix in ipairs(asked_prefixes) do
    if string.sub(topic, 1, #prefix) == prefix then return true end
  end
  return false
end

local function noted_prefix(prefix)
  local slash = 0
  for _ = 1, LEVELS do
    local deeper = string.find(prefix, '/', slash + 1, true)
    if not deeper then break end
    slash = deeper
  end
  return string.sub(prefix, 1, slash)
end

local function end_of_topics()
  if asked_prefixes[1] == '' then return trimmed end
  local newest = 0
  for topic in pairs(wanted) do
    local score = redis.call('ZSCORE', live, topic) or redis.call('ZSCORE', ended, topic)
    newest = math.max(newest, tonumber(score or floor))
  end
  for _, prefix in ipairs(asked_prefixes) do
    local score = tonumber(redis.call('ZSCORE', prefixes, noted_prefix(prefix)) or 0)
    newest = math.max(newest, score, prefix_floor)
  end
  return newest
end

local is_known = after >= 0 and is_ours(after_epoch, after)
local known_to = math.max(told, is_known and after or 0)
local trimmed_to = end_of_topics()
local missed = after_epoch ~= '' and (not is_known or trimmed_to > known_to)
if ARGV[4] == 'after' and not is_known then after = 0 end

local found, upto = {}, seq

local function by_index()
  local ids, topic_of = {}, {}
  for topic in pairs(wanted) do
    local index = key('topic:' .. topic)
    local entries
    if ARGV[4] == 'after' then
      entries = redis.call('XRANGE', index, whole(after + 1) .. '-0', '+', 'COUNT', limit)
    else
      entries = redis.call('XREVRANGE', index, whole(after) .. '-0', '-', 'COUNT', limit)
    end
    for _, entry in ipairs(entries) do
      ids[#ids + 1] = tonumber(string.match(entry[1], '^%d+'))
      topic_of[ids[#ids]] = topic
    end
  end
  table.sort(ids)
  local from = ARGV[4] == 'after' and 1 or math.max(1, #ids - limit + 1)
  for n = from, math.min(#ids, from + limit - 1) do
    local id = whole(ids[n]) .. '-0'
    found[#found + 1] = redis.call('XRANGE', log, id, id)[1]
      or {id, {'t', topic_of[ids[n]], 'p', redis.call('HGET', kept, whole(ids[n]))}}
  end
  if ARGV[4] == 'last' then
    upto = #found == limit and ids[from] - 1 or 0
  elseif #found == limit then
    upto = ids[limit]
  end
end

local function by_scan()
  -- The newest first where the last are asked for. `upto` is then from where on these are all.
  local forward, looked_at = ARGV[4] == 'after', 0
  local step = forward and 1 or -1
  while true do
    local entries
    if forward then
      entries = redis.call('XRANGE', log, whole(after + 1) .. '-0', '+', 'COUNT', 256)
    else
      entries = after > 0 and redis.call('XREVRANGE', log, whole(after) .. '-0', '-', 'COUNT', 256) or {}
    end
    if #entries == 0 then
      upto = forward and seq or 0
      return
    end
    for _, entry in ipairs(entries) do
      after, looked_at = tonumber(string.match(entry[1], '^%d+')), looked_at + 1
      if wanted[entry[2][2]] or matches_prefix(entry[2][2]) then found[#found + 1] = entry end
      if #found == limit or looked_at == scan then
        upto = forward and after or after - 1
        return
      end
    end
    if not forward then after = after - 1 end
  end
end

if limit > 0 then
  if #asked_prefixes == 0 then by_index() else by_scan() end
end

local told_now = trimmed_to > known_to and trimmed_to or told
local answer = {generation, epoch, whole(seq), whole(told_now), missed and 1 or 0, whole(upto)}
for _, entry in ipairs(found) do
  answer[#answer + 1] = string.match(entry[1], '^%d+')
  answer[#answer + 1] = entry[2][2]
  answer[#answer + 1] = entry[2][4]
end
return answer
"""
)

# ARGV: 4 'one' and 5 a topic; or 'due', 5 a prefix, 6 the number of records.
# Answer: generation, epoch, sequence, then for each record its topic, token, "sequence value", and the seconds until it
# is due.
HOLDS = (
    _STATE
    + """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
local answer = {generation, epoch, whole(seq)}

local function add(topic, at)
  answer[#answer + 1] = topic
  answer[#answer + 1] = redis.call('HGET', tokens, topic)
  answer[#answer + 1] = redis.call('HGET', values, topic)
  answer[#answer + 1] = string.format('%.6f', at - now)
end

if ARGV[4] == 'one' then
  local at = redis.call('ZSCORE', due, ARGV[5])
  if at then add(ARGV[5], tonumber(at)) end
  return answer
end
local from, wanted = 0, tonumber(ARGV[6])
while wanted > 0 do
  local records = redis.call('ZRANGE', due, from, from + 99, 'WITHSCORES')
  for n = 1, #records, 2 do
    if wanted > 0 and string.sub(records[n], 1, #ARGV[5]) == ARGV[5] then
      add(records[n], tonumber(records[n + 1]))
      wanted = wanted - 1
    end
  end
  if #records == 0 then break end
  from = from + 100
end
return answer
"""
)

# ARGV: 4 the replication id of the server, which is another one after a failover; 5 and 6 the newest id that the caller
# was given for an event of its own.
# Answer: epoch, sequence, and 1 if that event is gone.
ADOPT = (
    _STATE
    + """
local primary = redis.call('HGET', meta_key, 'primary')
if primary ~= ARGV[4] then
  if primary and epoch ~= ARGV[1] then begin_epoch() end
  redis.call('HSET', meta_key, 'primary', ARGV[4])
end
local is_gone = ARGV[5] ~= '' and not is_ours(ARGV[5], tonumber(ARGV[6]))
return {epoch, whole(seq), is_gone and 1 or 0}
"""
)
