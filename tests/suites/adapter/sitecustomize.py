# With this folder on PYTHONPATH, every process of a suite finds sse_trio.compat in the place of sse-starlette.
#
# Python imports this file when it starts: before pytest's plugins, of which one or another imports what imports
# sse-starlette, and in the servers that a suite starts as processes, too.

import sse_trio.compat

sse_trio.compat.install()
