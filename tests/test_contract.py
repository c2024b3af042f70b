# docs/contract.md names the tests that prove each of its lines: they exist, where pytest collects them.

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
LINES = re.split(r"^### ", PAGE.partition("\n## What is not")[0], flags=re.MULTILINE)[1:]
PROOF = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]*test_\w+\.py)\)")


def collected(file):
    """The names of the tests in a file, as pytest's own rules have it. (To ask pytest takes five seconds.)"""
    body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for node in [*body, *(inner for each in body if is_test_class(each) for inner in each.body)]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield node.name


def is_test_class(node):
    return isinstance(node, ast.ClassDef) and node.name.startswith("Test")


def test_each_line_has_a_proof():
    """Every promise of a stream, a hub and a run is on the contract page, with a test."""
    numbers = {"C": 15, "H": 7, "R": 7}
    assert [line.partition(":")[0] for line in LINES] == [
        f"{letter}{n}" for letter, last in numbers.items() for n in range(1, last + 1)
    ]
    assert [line for line in LINES if not PROOF.search(line)] == []


def test_each_proof_is_a_test():
    """Every test that the page names is there, in the file that it names."""
    named = {(file, name) for name, file in PROOF.findall(PAGE)}
    assert named - {(file, name) for file, _ in named for name in collected(file)} == set()
