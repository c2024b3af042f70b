# The architecture as a test: which folder may import which, and nothing that happens when a module is imported.
#
# Rule 1: imports only go down, type-only ones too. Each folder (or file at the top of the package) has one rank, and
#         imports folders of a lower rank, never of its own or a higher one.
# Rule 2: inside a folder, modules import one another as long as they make no circle.
# Rule 3: a third-party package is imported in the folders named for it and nowhere else.
# Rule 4: importing does nothing: no trio, no asyncio, no module-level state that could be changed later.

from __future__ import annotations

import ast
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEC = importlib.util.find_spec("sse_trio")
assert SPEC is not None
assert SPEC.origin is not None
PACKAGE = Path(SPEC.origin).parent

RANKS: tuple[frozenset[str], ...] = (
    frozenset({"_reasons", "_failures", "_arguments", "_loops"}),
    frozenset({"_requests", "_wire"}),
    frozenset({"_errors", "_compression"}),
    frozenset({"_channels", "_servers", "_typed", "stores"}),
    frozenset({"_groups"}),
    frozenset({"_hubs"}),
    frozenset({"_publishing", "_streams"}),
    frozenset({"_runs"}),
    frozenset({"client", "compat", "metrics", "tracing", "inspector", "publisher"}),
    frozenset({"testing", "_cli"}),
    frozenset({"__init__", "__main__"}),
)
"""From the bottom to the top."""
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}

# Which folders may import what from outside. What is not listed is the standard library or forbidden.
OUTSIDE: dict[str, frozenset[str]] = {
    "anyio": frozenset(RANK) - {"_reasons", "_errors", "_arguments", "_requests", "_wire", "_compression", "_typed"},
    "trio": frozenset({"_loops/trio", "testing"}),
    "asyncio": frozenset({"_loops/asyncio", "_servers/uvicorn_exit", "testing"}),
    "starlette": frozenset(
        {
            "_errors",
            "_failures",
            "_publishing",
            "_requests",
            "_runs",
            "_streams",
            "compat",
            "inspector",
            "testing",
        }
    ),
    "exceptiongroup": frozenset({"_failures", "_loops", "stores"}),
    "httpx": frozenset({"client", "testing", "_cli"}),
    "idna": frozenset({"client"}),  # of httpx, which raises its errors
    "pytest": frozenset({"testing"}),
    "coredis": frozenset({"stores"}),
    "psycopg": frozenset({"stores"}),
    "redis": frozenset({"publisher"}),
    "sqlalchemy": frozenset({"stores"}),
    "typer": frozenset({"_cli"}),
    "prometheus_client": frozenset({"metrics"}),
    "opentelemetry": frozenset({"tracing"}),
    "pydantic": frozenset({"_typed"}),
    "pydantic_core": frozenset({"_wire", "_typed"}),
    "msgspec": frozenset({"_typed"}),
}

Import = tuple[str, int]  # a dotted name, absolute, and the line it stands in


def modules() -> list[Path]:
    """Every file of the package as it is installed."""
    return sorted(PACKAGE.glob("**/*.py"))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a module. Nothing here changes it."""
    return ast.parse(path.read_text(encoding="utf-8"))


def parts_of(path: Path) -> tuple[str, ...]:
    """`sse_trio/stores/redis.py` is `("stores", "redis")`."""
    return path.relative_to(PACKAGE).with_suffix("").parts


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like ast.walk, without the bodies of `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from walk(child)


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The dotted name that a (relative) `from` import names."""
    if not node.level:
        return node.module or ""
    base = ("sse_trio", *parts_of(path)[: -node.level])
    return ".".join((*base, node.module) if node.module else base)


def imports_of(path: Path, *, with_types: bool = True) -> Iterator[Import]:
    """Every import of a module, those inside its functions included, and those for annotations only if asked for."""
    for node in (ast.walk if with_types else walk)(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = absolute(path, node)
            # `from . import _json` names a module, `from ._json import dumps` a name in one.
            submodules = [alias.name for alias in node.names if is_module(f"{name}.{alias.name}")]
            yield from ((f"{name}.{submodule}", node.lineno) for submodule in submodules)
            if len(submodules) < len(node.names):
                yield name, node.lineno


@functools.cache
def is_module(name: str) -> bool:
    parts = name.split(".")
    stem = PACKAGE.joinpath(*parts[1:])
    return parts[0] == "sse_trio" and (stem.with_suffix(".py").is_file() or (stem / "__init__.py").is_file())


def folder_of(name: str) -> str:
    """`sse_trio.stores.redis` is in `stores`; `sse_trio` itself in `__init__`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_folder_has_a_rank():
    """A new folder is entered in the table above, or it has no place."""
    homeless = {parts_of(path)[0] for path in modules()} - set(RANK)
    assert not homeless, f"give these a rank: {sorted(homeless)}"


def test_imports_only_go_down():
    """A module imports from folders below its own only, for annotations too."""
    wrong = [one for path in modules() for one in imports_up(path)]
    assert not wrong, "\n".join(wrong)


def imports_up(path: Path) -> Iterator[str]:
    me = parts_of(path)[0]
    for name, line in imports_of(path):
        target = folder_of(name)
        if name.split(".")[0] == "sse_trio" and target != me and RANK[target] >= RANK[me]:
            yield f"{path}:{line} reaches up, or sideways, to {name}"


def test_a_third_party_package_is_imported_where_it_belongs():
    """A module imports the standard library, the package itself, and what the table grants its folder."""
    wrong = [one for path in modules() for one in imports_from_outside(path)]
    assert not wrong, "\n".join(wrong)


def imports_from_outside(path: Path) -> Iterator[str]:
    me = parts_of(path)
    for name, line in imports_of(path, with_types=False):
        root = name.split(".")[0]
        if root in OUTSIDE:
            if not OUTSIDE[root] & {me[0], "/".join(me)}:
                yield f"{path}:{line}: {root} has no business in {me[0]}"
        elif root != "sse_trio" and root not in sys.stdlib_module_names:
            yield f"{path}:{line} imports {root}"


def test_nothing_imports_the_test_kit():
    """The test kit is for tests: only its own modules import it, and nothing needs it to run."""
    for path in modules():
        if parts_of(path)[0] != "testing":
            assert not [name for name, _ in imports_of(path) if name.startswith("sse_trio.testing")], path.name


def test_no_module_is_part_of_a_circle():
    """Also inside a folder, where one rank covers all: no module imports itself by way of others, for types either."""
    graph = {dotted(path): {name for name, _ in imports_of(path)} for path in modules()}
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        if name not in done:
            for target in graph.get(name, ()):
                if target != name:
                    visit(target, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def dotted(path: Path) -> str:
    parts = parts_of(path)
    return ".".join(("sse_trio", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def gained_by_import(statement: str) -> set[str]:
    """Run an import in a fresh interpreter and return the top-level modules that it brings."""
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_importing_the_package_imports_no_event_loop():
    """`import sse_trio` brings neither trio nor asyncio: users of one loop don't pay for the other."""
    brought_by_dependencies = gained_by_import("import anyio.abc, anyio.lowlevel, starlette.responses")
    brought = gained_by_import("import sse_trio") - brought_by_dependencies
    assert not brought & {"trio", "asyncio", "uvloop"}
    assert "trio" not in brought_by_dependencies  # or the line above would show nothing


def test_importing_the_package_imports_no_extra():
    """`import sse_trio` works with the hard dependencies alone."""
    assert not gained_by_import("import sse_trio") & {
        "httpx",
        "coredis",
        "msgspec",
        "pydantic",
        "pydantic_core",
        "typer",
        "prometheus_client",
        "opentelemetry",
        "brotli",
        "backports.zstd",
        "compression",
        "hypercorn",
        "uvicorn",
    }


MUTABLE_NODES = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "Counter"})


def is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).rpartition(".")[2] in MUTABLE_CALLS
    return isinstance(value, MUTABLE_NODES)


def is_constant(target: ast.expr, annotation: ast.expr | None) -> bool:
    """`NAME: Final[Mapping[...]] = {...}`: in capitals, and a type checker keeps everybody from changing it."""
    says_final = annotation is not None and ast.unparse(annotation).startswith("Final[Mapping[")
    return isinstance(target, ast.Name) and target.id.isupper() and says_final


def module_level_state(path: Path) -> Iterator[str]:
    for node in tree_of(path).body:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and is_mutable(node.value):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            annotation = node.annotation if isinstance(node, ast.AnnAssign) else None
            if not all(is_constant(target, annotation) for target in targets):
                yield f"{path}:{node.lineno}: {ast.unparse(targets[0])}"


def test_no_module_level_mutable_state():
    """State belongs to an object, or to one run of an event loop (anyio's RunVar), never to a module."""
    assert not [state for path in modules() for state in module_level_state(path)]


def test_no_global_statement():
    """No function rebinds a module's names: that would be the same state by another door."""
    nodes = ((path, node) for path in modules() for node in ast.walk(tree_of(path)))
    assert not [f"{path}:{node.lineno}" for path, node in nodes if isinstance(node, ast.Global)]
