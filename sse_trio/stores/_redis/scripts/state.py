# How every script begins: what it reads of the hub first, and what it does when history was lost. The rules and the
# keys are in __init__.py.

from __future__ import annotations

from ..._ends import LEVELS

__all__ = ("STATE",)

# ARGV of all: 1 a name for a new epoch, 2 and 3 the newest id that this process has seen.
STATE = """
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
    if #kept < 100 then kept[#kept + 1] = name .. ' ' .. upto end
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
