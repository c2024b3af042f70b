# The script that reads the records of held topics. The rules and the keys are in __init__.py.

from __future__ import annotations

from .state import STATE

__all__ = ("HOLDS",)

# ARGV: 4 'one' and 5 a topic; or 'due', 5 a prefix, 6 the number of records.
# Answer: generation, epoch, sequence, then for each record its topic, token, "sequence value", and the seconds until it
# is due.
HOLDS = (
    STATE
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
