# The script that reads events, and finds gaps. The rules and the keys are in __init__.py.

from __future__ import annotations

from .state import STATE

__all__ = ("READ",)

# ARGV: 4 'after' or 'last', 5 and 6 the id to read after ('' and -1 for none), or '' and the sequence to read back
# from, 7 the sequence up to which the asker knows of gaps, 8 the number of events, 9 the number of entries to look at,
# 10 the number of exact topics, then these, then prefixes.
# Answer: generation, epoch, sequence, trimmed_to, 1 if events were missed, up to where these are all, then for each
# event its sequence, topic and payload.
READ = (
    STATE
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
