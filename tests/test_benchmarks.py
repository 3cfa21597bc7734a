"""Benchmarks run for minutes to hours: here, that they start, and that their index is true."""

import ast
import importlib
import importlib.util
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers import ROOT

BENCHMARKS = ROOT / "benchmarks"
INDEX = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
MODULES = {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in BENCHMARKS.rglob("*.py")}
SCRIPTS = sorted(name for name, file in MODULES.items() if "__main__" in file.read_text(encoding="utf-8"))
OF_THE_EXTRA = {"faiss", "pytorch_lightning", "sentence_transformers"}
NEED_THE_EXTRA = {"benchmarks.speed.throughput"}  # others import it only when they need it


def imports(file: Path) -> Iterator[tuple[str, str | None]]:
    """Modules, and the names that are taken out of them; also of imports inside functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_what_a_benchmark_imports_exists(name: str) -> None:
    for module, taken in imports(MODULES[name]):
        package = module.partition(".")[0]
        if package in ("coterie", "benchmarks"):
            there = importlib.import_module(module)
            assert taken is None or hasattr(there, taken) or importlib.util.find_spec(f"{module}.{taken}")
        else:
            assert package in OF_THE_EXTRA or importlib.util.find_spec(package), f"there is no module {module}"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if name in NEED_THE_EXTRA and not importlib.util.find_spec("pytorch_lightning"):
        pytest.skip("needs the extra 'benchmark'")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    monkeypatch.delitem(sys.modules, name, raising=False)  # where another test has imported it, runpy warns
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert f"usage: python -m {name}" in capsys.readouterr().out


def test_scripts_do_not_import_scripts() -> None:
    for name in SCRIPTS:
        assert not {module for module, _ in imports(MODULES[name])} & set(SCRIPTS), name


def test_the_index_lists_every_script_and_result() -> None:
    linked = set(re.findall(r"\]\(([^)#:]+)\)", INDEX))
    files = {file for suffix in ("py", "md", "svg") for file in BENCHMARKS.rglob(f"*.{suffix}")}
    there = {file.relative_to(BENCHMARKS).as_posix() for file in files} - {"__init__.py", "README.md"}
    assert linked == there


def test_the_index_gives_the_dates_of_the_results() -> None:
    for line in INDEX.splitlines():
        for result in re.findall(r"\[result\]\(([^)]+)\)", line):
            [found] = set(re.findall(r"^`.*`, (\d{4}-\d\d-\d\d), ", (BENCHMARKS / result).read_text(), re.MULTILINE))
            assert f"| {found} |" in line, result


def test_a_script_is_over_where_only_its_result_is_left() -> None:
    for line in INDEX.splitlines():
        if line.startswith("|") and "[result]" in line:
            assert ("[script]" in line) != ("; over, `" in line), line
