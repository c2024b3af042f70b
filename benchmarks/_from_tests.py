# What benchmarks take from the tests of the stores: servers, poolers, proxies.

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def tests(name):
    """Import a module of the tests of the stores."""
    root = str(Path(__file__).parent.parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    return importlib.import_module(f"tests.stores.{name}")
