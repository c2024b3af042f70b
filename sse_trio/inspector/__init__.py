# The inspector: a page that shows the streams of a running application, live, to authorized users.
#
#   _guard      who may use it, and from where
#   _sampler    reads the group and the hub, once a second for all open pages
#   _view       what one page is sent: the rows at the top of a table, and then the changes
#   _app        the routes
#   static/     the page; it loads nothing from elsewhere
#
# Rule 1: it reads the public snapshots. While no page is open, it reads nothing and runs nothing.
# Rule 2: it works with thousands of streams: it never sends a whole table, and while it reads other tasks have their
#         turn.

from ._app import stream_inspector as stream_inspector

__all__ = ("stream_inspector",)
