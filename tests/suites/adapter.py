# A pytest plugin: the suite runs on sse_trio.compat in the place of sse-starlette.
#
# Rule: loaded by `-p`, before any test's module is imported. A suite that reached sse-starlette itself would pass and
#       say nothing, so that is an error.

from __future__ import annotations

import sys

import sse_trio.compat

sse_trio.compat.install()


def pytest_sessionfinish() -> None:
    """Fail where sse-starlette itself was reached after all."""
    package = sys.modules["sse_starlette"]
    assert package.EventSourceResponse is sse_trio.compat.EventSourceResponse
    genuine = [
        name
        for name, module in sys.modules.items()
        if name.startswith("sse_starlette.") and hasattr(module, "__file__")
    ]
    assert not genuine, f"sse-starlette itself was imported: {genuine}"
