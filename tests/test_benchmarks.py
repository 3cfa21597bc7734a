"""Benchmarks run for minutes to hours, so nobody runs all of them: here, that what they import is still there."""

import ast
import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import ROOT

SCRIPTS = {script.stem: script for script in (ROOT / "benchmarks").glob("*.py")}
OF_THE_EXTRA = {"faiss", "pytorch_lightning"}


def imports(script: Path) -> Iterator[tuple[str, str | None]]:
    """Modules, and the names that are taken out of them."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.module, alias.name) for alias in node.names)


def defined(script: Path) -> set[str]:
    """Names at a script's top level."""
    body = ast.parse(script.read_text(encoding="utf-8")).body
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    named = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    # Several at once too: A, B = 1, 2.
    return named | {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_what_a_benchmark_imports_exists(name: str) -> None:
    for module, taken in imports(SCRIPTS[name]):
        package = module.partition(".")[0]
        if module in SCRIPTS:
            assert taken is None or taken in defined(SCRIPTS[module]), f"{module} has no {taken}"
        elif package == "coterie":
            there = importlib.import_module(module)
            assert taken is None or hasattr(there, taken) or importlib.util.find_spec(f"{module}.{taken}")
        else:
            assert package in OF_THE_EXTRA or importlib.util.find_spec(package), f"there is no module {module}"
