# The public surface: what `__all__` says is what there is, and all of it is documented.

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import sse_trio


def module_names():
    """Every module of the package that can be imported without running it."""
    names = [info.name for info in pkgutil.walk_packages(sse_trio.__path__, "sse_trio.")]
    return ["sse_trio", *(name for name in names if not name.endswith("__main__"))]


def modules():
    return [importlib.import_module(name) for name in module_names()]


def test_all_is_a_tuple_without_doubles():
    """Each module declares its public names once, in an immutable value (ruff's RUF022 keeps it sorted)."""
    for module in modules():
        assert isinstance(module.__all__, tuple), f"{module.__name__}.__all__ is to be a tuple"
        assert len(module.__all__) == len(set(module.__all__)), f"{module.__name__}.__all__ has a name twice"


def test_all_names_exist():
    """No name in `__all__` is without a thing behind it."""
    missing = [
        f"{module.__name__}.{name}" for module in modules() for name in module.__all__ if not hasattr(module, name)
    ]
    assert not missing


def test_the_package_exports_all_that_is_public():
    """Every public name in `sse_trio` is in `__all__`, and nothing else is reachable without an underscore."""
    public = {
        name for name, value in vars(sse_trio).items() if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public - {"annotations"} == set(sse_trio.__all__)


def public_things():
    for name in module_names():
        if "._" in name:
            continue
        module = importlib.import_module(name)
        for export in getattr(module, "__all__", ()):
            thing = getattr(module, export)
            yield f"{name}.{export}", thing
            if inspect.isclass(thing):
                yield from public_members(f"{name}.{export}", thing)


def public_members(prefix, cls):
    for name, value in vars(cls).items():
        if not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, (property, classmethod))):
            yield f"{prefix}.{name}", getattr(cls, name)


def test_everything_public_is_documented():
    """Each public class, function, method and property has a docstring or inherits one."""
    assert not [name for name, thing in public_things() if not inspect.getdoc(thing)]
