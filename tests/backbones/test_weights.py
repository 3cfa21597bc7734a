"""Weights out of a file, into a network."""

import contextlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from coterie.backbones.weights import load_weights, put_weights
from coterie.errors import BackboneError
from networks import make_8


class Payload:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("was_here",)


def test_a_checkpoint_with_code_in_it_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"head.weight": torch.zeros(8, 6)}, "extra": Payload()}, "code.pt")
    torch.save(make_8(), "whole.pt")
    Path("plain.pkl").write_bytes(pickle.dumps(Payload()))
    for name in ("code.pt", "whole.pt", "plain.pkl"):
        with pytest.raises(
            BackboneError, match=r"holds more than tensors, and reading it would run code, so it is ref"
        ):
            load_weights(Path(name), make_8())
    assert not Path("was_here").exists()


def test_weights_that_do_not_fit_are_named_with_both_shapes(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    state = make_8().state_dict()
    cases = {
        r"head.weight has shape \(3, 6\) in the file and \(8, 6\)": {**state, "head.weight": torch.zeros(3, 6)},
        "the file lacks head.bias": {name: tensor for name, tensor in state.items() if name != "head.bias"},
        "the network has no more": {**state, "more": torch.zeros(1)},
        "holds a list and no state_dict": [1, 2],
        "holds a dict and no state_dict": {"epoch": 3},
        "holds a dict and no state_dict: names and their tensors": {1: torch.zeros(3)},
    }
    for message, content in cases.items():
        torch.save(content, file)
        with pytest.raises(BackboneError, match=message):
            load_weights(file, make_8())
    file.write_bytes(b"nonsense")
    with pytest.raises(BackboneError, match=r"cannot read the weights|holds more than tensors"):
        load_weights(file, make_8())
    with pytest.raises(BackboneError, match=r"cannot read the weights in .*missing.safetensors"):
        load_weights(tmp_path / "missing.safetensors", make_8())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.weight", torch.nan, "head.weight has NaN or infinite values"),
        ("head.bias", torch.inf, "head.bias has NaN or infinite values"),
    ],
)
def test_weights_that_are_not_finite_are_named(tmp_path: Path, name: str, value: float, message: str) -> None:
    state = make_8().state_dict()
    state[name].view(-1)[-1] = value
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(BackboneError, match=rf"weights\.pt does not fit: no training leaves such weights: {message}"):
        load_weights(tmp_path / "weights.pt", make_8())


def test_a_mask_of_infinite_values_is_no_fault() -> None:
    network = make_8()
    network.register_buffer("mask", torch.full((2, 2), -torch.inf))
    put_weights(network.state_dict(), network)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_are_read_or_named(tmp_path: Path, suffix: str) -> None:
    file, state = tmp_path / f"weights.{suffix}", make_8().state_dict()
    if suffix == "pt":
        torch.save(state, file)
    else:
        safetensors.torch.save_file(state, file)
    content = file.read_bytes()
    for place in np.random.default_rng(0).integers(len(content), size=150):
        flipped = bytearray(content)
        flipped[place] ^= 1 << (place % 8)
        file.write_bytes(flipped)
        with contextlib.suppress(BackboneError):
            load_weights(file, make_8())
