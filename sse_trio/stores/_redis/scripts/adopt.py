# The script that looks at a server before it is used, and begins an epoch where it is another one, or was restarted.
# The rules and the keys are in __init__.py.

from __future__ import annotations

from .state import STATE

__all__ = ("ADOPT",)

# ARGV: 4 the replication id of the server, another one after a restart or a failover; 5 and 6 the newest id that
# the caller was given for an event of its own.
# Answer: epoch, sequence, and 1 if that event is gone.
ADOPT = (
    STATE
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
