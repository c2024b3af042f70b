# The suites of sse-starlette and of mcp, from their sdists, on sse_trio.compat: what fails on it and not without it?
#
#     python tests/suites/run.py [suite...]         # in an environment of the dependency group `suites`
#
# Rule 1: the tests are those of the versions that are installed. Only what an sdist lacks is added (ADDED).
# Rule 2: a difference is a test that fails on the adapter, fails so a second time, and passes on sse-starlette. Each is
#         declared in differences.toml with its reason, and each that is declared is one: both ways it is an error.
# Rule 3: what passes on the adapter isn't run without it: it can't be a difference.

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import tomllib

HERE = Path(__file__).parent
WITHIN = 600  # seconds for one run of a suite


@dataclass(frozen=True)
class Suite:
    """Somebody else's suite."""

    name: str
    at_least: int
    """So many of its tests pass, or it wasn't the suite that has run."""
    options: tuple[str, ...]
    processes: int
    """How many run it. sse-starlette's tests are few, and count time."""
    added: dict[str, Path | str] = field(default_factory=dict)
    """Files that its sdist lacks."""
    path: tuple[str, ...] = ()
    """Folders of its own to import from."""


SUITES = (
    Suite(
        "sse-starlette",
        at_least=70,
        # The tests of an example need that example, which no sdist has.
        options=("-o", "asyncio_mode=auto", "--ignore=tests/test_broadcasting_example.py"),
        processes=0,
        added={
            "tests/__init__.py": "",
            "tests/anyio_compat.py": HERE / "sse_starlette_anyio_compat.py",
            "tests/conftest.py": HERE / "sse_starlette_conftest.py",
        },
    ),
    Suite(
        "mcp",
        at_least=6000,
        # Its tests are for anyio's plugin. Those of its documentation need what builds that, and serve no stream.
        options=("-p", "no:asyncio", "-o", "log_cli=false", "--ignore=tests/docs"),
        processes=os.cpu_count() or 1,
        path=("examples",),
    ),
)


@dataclass(frozen=True)
class Outcome:
    """What a run of a suite has said."""

    passed: frozenset[str]
    failed: frozenset[str]
    output: str


def main() -> int:
    names = sys.argv[1:] or [suite.name for suite in SUITES]
    declared = tomllib.loads((HERE / "differences.toml").read_text(encoding="utf-8"))
    faults: list[str] = []
    for suite in SUITES:
        if suite.name in names:
            faults += compare(suite, frozenset(test for each in declared.get(suite.name, []) for test in each["tests"]))
    print(*(faults or ["Every difference is declared, and every one that is declared is there."]), sep="\n")
    return bool(faults)


def compare(suite: Suite, declared: frozenset[str]) -> list[str]:
    """Run the suite, and return what is wrong."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = unpack(suite, Path(temporary))
        ours = run(suite, folder, adapter=True)
        theirs = run(suite, folder, sorted(ours.failed)) if ours.failed else ours
        differing = ours.failed - theirs.failed
        unexpected = differing - declared
        if unexpected:
            again = run(suite, folder, sorted(unexpected), adapter=True)
            unexpected &= again.failed
            if unexpected:  # nobody looks for a failure among those that are declared
                print(again.output)
    print(
        f"{suite.name}: {len(ours.passed)} pass, {len(ours.failed & theirs.failed)} fail without the adapter, too, "
        f"{len(differing)} differ, {len(differing & declared)} of them as declared"
    )
    faults = [f"{suite.name}: {test} fails on the adapter only, and isn't declared" for test in sorted(unexpected)]
    faults += [f"{suite.name}: {test} is declared, and doesn't differ" for test in sorted(declared - differing)]
    if len(ours.passed) < suite.at_least:
        faults.append(f"{suite.name}: {len(ours.passed)} tests have passed, and {suite.at_least} should have")
    return faults


def unpack(suite: Suite, folder: Path) -> Path:
    """Return the folder with the sdist of what is installed."""
    requirement = f"{suite.name}=={version(suite.name)}"
    options = ("--no-deps", "--no-binary", suite.name, "--dest", str(folder))
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *options, requirement], check=True)
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = [path for path in folder.iterdir() if path.is_dir()]
    for name, content in suite.added.items():
        text = content if isinstance(content, str) else content.read_text(encoding="utf-8")
        (unpacked / name).write_text(text, encoding="utf-8")
    return unpacked


def run(suite: Suite, folder: Path, tests: list[str] | None = None, *, adapter: bool = False) -> Outcome:
    """Run these of its tests, or all of them, with the adapter in the place of sse-starlette, or without."""
    outcomes = folder.parent / "outcomes.json"
    outcomes.unlink(missing_ok=True)
    found_in = [HERE, *([HERE / "adapter"] if adapter else []), *(folder / path for path in suite.path)]
    parallel = ("-n", str(suite.processes), "--dist", "loadfile")
    quiet = ("-W", "ignore:Module already imported so cannot be rewritten")  # anyio: by the adapter, and it has no test
    options = (
        *quiet,
        "-q",
        "--color=no",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "--timeout=60",
        *parallel,
        *suite.options,
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, found_in)),
        "SSE_TRIO_ADAPTER": "1" if adapter else "0",
        "SSE_TRIO_OUTCOMES": str(outcomes),
    }
    command = [sys.executable, "-m", "pytest", "-p", "outcomes", *options, *(tests or ["tests"])]
    merged = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    ran = subprocess.run(command, cwd=folder, env=environment, timeout=WITHIN, check=False, text=True, **merged)
    if not outcomes.exists():
        sys.exit(f"{ran.stdout}\n{suite.name}: pytest did not reach its tests; its output is above")
    found = json.loads(outcomes.read_text(encoding="utf-8"))
    return Outcome(frozenset(found["passed"]), frozenset(found["failed"]), ran.stdout)


if __name__ == "__main__":
    sys.exit(main())
