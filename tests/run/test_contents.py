"""Files of a run with a right checksum and a wrong content: each is one sentence that names the file."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import coterie
from coterie.backbones.deltas import CODES, STEP, encode
from coterie.errors import ArtifactError, CoterieError
from coterie.routing.tune import TuningRequest
from coterie.run.folder import Run
from coterie.run.reporting import read_outputs, read_reports, retune, write_report
from coterie.run.values import read_head
from helpers import FIXTURES, rewrite, rewrite_json, rewrite_manifest, rewrite_tensors

RUN = "whole-on-features"
Tensors = dict[str, Tensor]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(FIXTURES / "runs" / RUN, tmp_path / RUN)


@pytest.fixture
def tails(tmp_path: Path) -> Path:
    name = "tails-of-two-partitions"
    return shutil.copytree(FIXTURES / "runs" / name, tmp_path / name)


def changed(key: str, change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: change(tensor) if name == key else tensor for name, tensor in tensors.items()}


def first(value: float) -> Callable[[Tensor], Tensor]:
    """The tensor with another first value."""

    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor.view(-1)[0] = value
        return tensor

    return change


def lacks(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lacks("base_NC"), "no array 'base_NC'"),
        (changed("base_NC", first(math.nan)), "base_NC: NaN or infinite"),
        (changed("packed_NM", first(math.inf)), "packed_NM: NaN or infinite"),
        (changed("base_NC", lambda t: t[:, :-1]), r"base_NC: shape \(.*\); needed: \(N, 12\)"),
        (changed("packed_NM", lambda t: t[1:]), r"packed_NM: shape \(.*\); needed: \(\d+, 12\)"),
        (changed("base_NC", lambda t: t.to(torch.complex64)), "base_NC: type torch.complex64"),
        (changed("base_NC", lambda t: t.bfloat16()), "base_NC: type torch.bfloat16"),
        (changed("label_N", first(12)), "label_N: values from 0 to 12; allowed: 0 to 11"),
        (changed("label_N", first(-1)), "label_N: values from -1 to 11"),
        (changed("label_N", lambda t: t.float()), "label_N: type torch.float32"),
        (lambda tensors: {name: tensor[:0] for name, tensor in tensors.items()}, r"shape \(0, 12\); needed: \(N, 12\)"),
    ],
)
def test_stored_logits_that_are_none_are_named(run: Path, change: Callable[[Tensors], Tensors], message: str) -> None:
    rewrite_tensors(run, "logits/test.safetensors", change)
    opened = Run.open_complete(run)
    for use in (lambda: read_outputs(opened, "test"), lambda: retune(opened, TuningRequest())):
        with pytest.raises(ArtifactError, match=rf"logits/test\.safetensors does not hold what it should: .*{message}"):
            use()


def set_in(*path: Any, value: Any) -> Callable[[Any], Any]:
    def change(values: Any) -> Any:
        inner = values
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return values

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: [], "top level: Input should be a valid dictionary"),
        (lambda values: {"test": values["test"]}, "no figures of validation"),
        (set_in("test", "gain", value="much"), "at test.gain: "),
        (set_in("test", "gain", value=None), "at test.gain: "),
        (set_in("test", "clusters", 0, "cluster", value=4), "a cluster 4"),
        (set_in("test", "clusters", 0, "classes", value=[12]), r"a cluster 0 of classes \[12\]"),
        (set_in("test", "curve", "routed", value=[]), "a curve whose columns differ in length"),
        (set_in("test", "balance", value=3), "at test.balance: "),
    ],
)
def test_figures_that_are_none_are_named(run: Path, change: Callable[[Any], Any], message: str) -> None:
    rewrite_json(run, "metrics.json", change)
    opened = Run.open_complete(run)
    for use in (lambda: read_reports(opened), lambda: write_report(opened, "2026-01-01")):
        with pytest.raises(ArtifactError, match=rf"metrics\.json does not hold what it should: .*{message}"):
            use()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff{}", "codec can't decode"),
        (b"[" * 100_000, "nested more than 64 deep"),
        (b'{"base": [{"loss": NaN, "accuracy": 0.5}]}', "Out of range float values"),
        (b'{"base": [{"loss": 1e999, "accuracy": 0.5}]}', "Out of range float values"),
        (b'{"base": [{"loss": 1.0}]}', "at base.0.accuracy: Field required"),
        (b'{"base": {"loss": 1.0}}', "at base: "),
        (json.dumps({"base": [{"loss": 1.0, "accuracy": 0.5}] * 10_000}).encode(), "10000 epochs of 'base'; the set"),
    ],
)
def test_a_history_that_is_none_is_named(run: Path, content: bytes, message: str) -> None:
    rewrite(run, "history.json", content)
    with pytest.raises(ArtifactError, match=rf"history\.json does not hold what it should: .*{message}"):
        write_report(Run.open_complete(run), "2026-01-01")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("examples.safetensors", changed("row_E", first(10**6)), "row_E: values from"),
        ("examples.safetensors", changed("row_E", lambda t: t[:-1]), r"examples\.json .*needed: "),
        ("examples.json", lambda texts: texts[1:], r"examples\.json .*needed: "),
        ("examples.json", lambda texts: [*texts[1:], 3], "at 11: Input should be a valid string|at [0-9]+: "),
        ("head.safetensors", changed("weight_CD", lambda t: t[1:]), r"weight_CD: shape \(11, 8\); needed: \(12, D\)"),
        ("head.safetensors", changed("weight_CD", first(math.nan)), "weight_CD: NaN"),
        ("head.safetensors", lacks("weight_CD"), "no array 'weight_CD'"),
    ],
)
def test_what_a_report_shows_and_is_not_there_is_named(
    run: Path, name: str, change: Callable[[Any], Any], message: str
) -> None:
    (rewrite_json if name.endswith(".json") else rewrite_tensors)(run, name, change)
    with pytest.raises(ArtifactError, match=message):
        write_report(Run.open_complete(run), "2026-01-01")


def test_examples_that_are_images_have_the_size_of_the_runs_images(tails: Path) -> None:
    rewrite_tensors(tails, "examples.safetensors", changed("pixels_EHWC", lambda t: t[:, 1:]))
    with pytest.raises(ArtifactError, match="pixels_EHWC: shape"):
        write_report(Run.open_complete(tails), "2026-01-01")


def test_the_head_of_a_run_without_biases_has_none(run: Path) -> None:
    rows_CD, bias_C = read_head(Run.open(run))
    assert rows_CD.shape == (12, 8)
    assert bias_C is not None
    rewrite_tensors(run, "head.safetensors", lacks("bias_C"))
    assert read_head(Run.open(run))[1] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed("hidden.0.weight", first(math.nan)), "no training leaves such weights: hidden.0.weight has NaN"),
        (changed("head.bias", first(-math.inf)), "no training leaves such weights: head.bias has NaN or infinite"),
        (changed("hidden.1.running_mean", first(math.nan)), "hidden.1.running_mean has NaN"),
        (changed("hidden.1.running_var", first(-1.0)), r"hidden.1.running_var has a negative variance \(-1\)"),
        (changed("hidden.0.weight", lambda t: t.T), "another network's weights: hidden.0.weight has shape"),
        (changed("hidden.0.weight", lambda t: t.to(torch.complex64)), "has type torch.complex64 in the file"),
        (changed("hidden.0.weight", lambda t: t.int()), "has type torch.int32 in the file"),
        (changed("hidden.1.num_batches_tracked", lambda t: t.float()), "has type torch.float32 in the file"),
        (lacks("head.bias"), "the file lacks head.bias"),
        (lambda tensors: {**tensors, "more": torch.ones(1)}, "the network has no more"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_weights_that_no_training_leaves_are_never_answered_with(
    run: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    rewrite_tensors(run, "base.safetensors", change)
    with pytest.raises(ArtifactError, match=rf"base\.safetensors does not fit: .*{message}"):
        coterie.load(run)


MATRIX = "stage3.0.0.weight"


def coded(run: Path, name: str) -> None:
    """Store a matrix of a specialist as coded differences from the base's."""
    base = Run.open(run).read_tensors("base.safetensors")
    rewrite_tensors(run, name, lambda ts: {**lacks(MATRIX)(ts), **encode({MATRIX: base[MATRIX] + 0.1}, base, 4.0)})


@pytest.mark.parametrize(
    "change",
    [
        lacks(f"{MATRIX}{STEP}"),
        lacks(f"{MATRIX}{CODES}"),
        changed(f"{MATRIX}{STEP}", lambda step_R: step_R[:1]),
        changed(f"{MATRIX}{STEP}", lambda step_R: step_R * math.nan),
        changed(f"{MATRIX}{CODES}", lambda codes: codes.bfloat16()),
        changed(f"{MATRIX}{CODES}", lambda codes: codes[:-1]),
        lambda tensors: {**tensors, "nowhere:codes": torch.zeros(4, dtype=torch.uint8)},
        lambda tensors: {**tensors, "head.weight:up": torch.ones(3, 2)},
        lambda tensors: {**tensors, "head.weight:down": torch.ones(3, 2)},
    ],
)
def test_differences_from_the_base_that_are_none_are_named(tails: Path, change: Callable[[Tensors], Tensors]) -> None:
    name = "specialists/4/2.safetensors"
    coded(tails, name)
    coterie.load(tails)
    rewrite_tensors(tails, name, change)
    with pytest.raises(ArtifactError, match=rf"{name} does not fit: "):
        coterie.load(tails)


def test_a_trunk_that_ends_nowhere_is_named(tails: Path) -> None:
    for cut in ("nowhere", "", "head"):
        rewrite_manifest(tails, trunk={"cut": cut, "pass_cost": 0.5})
        with pytest.raises(CoterieError, match=r"cannot be cut in two|10\) for a sample, where there are 2 classes"):
            coterie.load(tails)


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"mean": [0.0] * 8, "std": [0.0] * 8}, "as many finite means as deviations above 0"),
        ({"mean": [0.0] * 8, "std": [1.0] * 7}, "8 means .* 7 deviations"),
        ({"mean": [1e300] * 8, "std": [1.0] * 8}, "as many finite means"),
        ({"mean": [0.0] * 8, "std": [1e-40] * 8}, "as many finite means"),
        ({"mean": [], "std": []}, "a width of at least 1"),
        ({"mean": [0.0] * 7, "std": [1.0] * 7}, "does not fit: another network's weights|cannot be rebuilt"),
    ],
)
def test_a_scale_by_which_nothing_can_be_answered_is_named(run: Path, scale: dict[str, Any], message: str) -> None:
    data = json.loads((run / "manifest.json").read_text())["data"]
    rewrite_manifest(run, data={**data, "input": {**data["input"], "scale": scale}})
    with pytest.raises(ArtifactError, match=message):
        coterie.load(run)


def test_a_finite_answer_needs_finite_logits(run: Path) -> None:
    # Finite each, and their products are not.
    rewrite_tensors(run, "base.safetensors", lambda ts: {**ts, "head.weight": torch.full_like(ts["head.weight"], 3e38)})
    with pytest.raises(ArtifactError, match="logits that are NaN or infinite"):
        coterie.load(run)


def test_stored_logits_are_what_they_were(run: Path) -> None:
    outputs = read_outputs(Run.open(run), "test")
    stored = Run.open(run).read_arrays("logits/test.safetensors")
    np.testing.assert_array_equal(outputs.base_NC, stored["base_NC"])
    assert outputs.label_N.dtype == np.int64
