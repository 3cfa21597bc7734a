"""Manifests that somebody has written by hand: one sentence for each, and nothing read wrongly."""

import copy
import json
import math
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coterie.errors import ArtifactError
from coterie.run.folder import Run
from coterie.run.manifest import MOST_BYTES
from helpers import FIXTURES


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURES / "runs" / "blend-of-texts", tmp_path / "run")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("files.base", {"bytes": 1, "sha256": "x"}, "sha256"),
        ("files.base", {"bytes": -1, "sha256": "0" * 64}, "bytes"),
        ("files.../x", {"bytes": 1, "sha256": "0" * 64}, "no name of a file in a run"),
        ("replacing.specialists/../../x", {"bytes": 1, "sha256": "0" * 64}, "no name of a file in a run"),
        ("seconds", {}, "seconds lacks base.safetensors"),
        ("seconds.base.safetensors", math.nan, "not JSON compliant"),
        ("seconds.base.safetensors", -1, "greater than or equal to 0"),
        ("data.classes", ["a", "a"], "class names must differ"),
        ("data.classes", ["a", "b"], "for 2 classes"),
        ("data.input.buckets", 10**9, "n-grams need 2 to 16,777,216 buckets"),
        ("partition.members", [], "members"),
        ("partition.members", [[0, 1, 2, 3, 4, 5, 6, 7, 8], []], "empty clusters: \\[1\\]"),
        ("partition.members", [[0, 1, 2, 3, 4, 5, 6, 7]], "classes in none: \\[8\\]"),
        ("partition.members", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]], "not among the 9 classes"),
        ("partition.members", [[0, 1, 2, 3, 4, 5, 6, 7, 8, 8]], "holds a class twice"),
        ("partition.members", [[-1]], "greater than or equal to 0"),
        ("partition.layers", [0, 0], "3 clusters need as many layers"),
        ("partition.layers", [0, 0, 1], "each class in a cluster of each"),
        ("groupings", [[[0, 1]]], "classes in none"),
        ("train_counts", [1, 2], "train_counts has 2 numbers"),
        ("head.out_features", 7, "7 classes is no head"),
        ("gate.temperature", 0, "greater than or equal to 0.001"),
        ("gate.weights", [0.5, 0.5], "2 values for 3 clusters"),
        ("gate.weights", [2], "less than or equal to 1.0"),
        ("gate.gain", None, "a learned gate needs a model"),
        ("gate.gain.coefficients", [1.0], "finite coefficients"),
        ("gate.limits", {"luck": 1.0}, "limits.luck"),
        ("gate.top", 10**10, "less than 2147483648"),
        ("costs.base_seconds", -1, "costs are negative"),
        ("settings.hardware.threads", 10**9, "less than or equal to 1024"),
        ("settings.hardware", {"self": 1}, "unknown setting 'self'"),
        ("settings", 5, "settings"),
        ("network", {"transformers": {"a": [[[[]]] * 3]}, "output": {}}, "network"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(run: Path, place: str, value: object, message: str) -> None:
    file = run / "manifest.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps(_with(values, place, value)))
    with pytest.raises(ArtifactError, match=message) as raised:
        Run.open_complete(run)
    assert len(str(raised.value)) < 1000


def _with(values: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """The first part of a place that is a name on each level; the rest is a name whatever dots it has."""
    changed = copy.deepcopy(values)
    name, _, rest = place.partition(".")
    if not rest or name in ("files", "replacing", "seconds"):
        changed[name] = value if not rest else {**changed[name], rest: value}
    else:
        changed[name] = _with(changed[name], rest, value)
    return changed


def test_numbers_in_inputs_are_bounded(tmp_path: Path) -> None:
    run = shutil.copytree(FIXTURES / "runs" / "format-1", tmp_path / "run")
    file = run / "manifest.json"
    values = json.loads(file.read_text())
    for name, value, message in (
        ("height", 10**9, "more than anybody's"),
        ("width", 0, "have no values"),
        ("std", [0.0], "deviations above 0"),
        ("mean", [1.0, 2.0], "as many finite means as deviations"),
    ):
        file.write_text(json.dumps(_with(values, f"data.{name}", value)))
        with pytest.raises(ArtifactError, match=message):
            Run.open(run)


def test_a_manifest_nested_200000_deep_is_one_sentence(run: Path) -> None:
    (run / "manifest.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(ArtifactError, match=r"cannot read .*manifest\.json: it is nested more than 64 deep"):
        Run.open(run)


def _socket(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(file))


IRREGULAR: dict[str, Callable[[Path], object]] = {
    "device": lambda file: file.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": Path.mkdir,
    "link": lambda file: file.symlink_to(FIXTURES / "runs" / "blend-of-texts" / file.name),
    "socket": _socket,
}


@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_no_regular_file_is_neither_read_nor_waited_for(
    run: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)  # the path of a socket is short
    for name in ("base.safetensors", "manifest.json"):
        (run / name).unlink()
        IRREGULAR[kind](Path(name))
        with pytest.raises(ArtifactError, match=rf"{name}.* is not a regular file"):
            Run.open(run).read(name)


def test_a_manifest_has_a_size(run: Path) -> None:
    with (run / "manifest.json").open("r+b") as stream:
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(ArtifactError, match=r"larger than 33,554,432 bytes"):
        Run.open(run)
