# The inspector: a page that shows the streams of a running application, live, to those who may see it.
#
#   _sampler    what is read of the group and the hub, once a second for all who look on
#   _view       what one of them is sent of it: the rows at the top of a table, and then what changes in them
#   _app        who may, and the routes
#   static/     the page; nothing in it comes from elsewhere
#
# Rule 1: it reads the snapshots that everybody can read. While nobody looks on, nothing is read and nothing runs.
# Rule 2: it works with thousands of streams: no table is ever sent whole, and reading them leaves others their turn.

from ._app import stream_inspector as stream_inspector

__all__ = ("stream_inspector",)
