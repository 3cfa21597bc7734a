"""Weights out of a file, into a network."""

import argparse
import contextlib
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

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


STATE = make_8().state_dict()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (STATE, ""),
        ({"epoch": 3, "arch": "x", "state_dict": STATE, "args": argparse.Namespace(lr=0.1, out=Path("x"))}, ""),
        ({"state_dict": STATE, "best": np.float64(0.3), "curve": np.arange(3.0), "step": np.int64(4)}, ""),
        ({f"_orig_mod.module.{name}": tensor for name, tensor in STATE.items()}, ""),
        ({f"module.module._orig_mod.{name}": tensor for name, tensor in STATE.items()}, ""),
        ({name.replace("trunk.", "trunk._orig_mod."): tensor for name, tensor in STATE.items()}, ""),
        ({name.replace("trunk.", "trunk.module."): tensor for name, tensor in STATE.items()}, ""),
        (AveragedModel(make_8()).state_dict(), ""),
        ({"model": {"module": STATE, "updates": 4}}, ""),
        (
            {"state_dict": {**{f"net.{n}": t for n, t in STATE.items()}, "criterion.weight": torch.ones(4)}},
            "; left out: criterion.weight",
        ),
        ({**STATE, "criterion.weight": torch.ones(4)}, "; left out: criterion.weight"),
    ],
    ids=[
        "plain", "timm", "numpy", "compiled", "ddp", "compiled part", "parallel part", "averaged", "nested", "net.",
        "criterion",
    ],
)  # fmt: skip
def test_weights_as_people_have_them(content: dict, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    network = zeroed(make_8())
    assert load_weights(tmp_path / "w.pt", network) == f"weights: all 4 tensors from {tmp_path / 'w.pt'}{said}"
    assert same(network, STATE)


@pytest.mark.parametrize("name", ["state_dict_ema", "model_ema", "ema"])
def test_of_weights_and_their_average_the_latter_is_taken_and_said(name: str, tmp_path: Path) -> None:
    file, plain = tmp_path / "w.pt", {key: tensor + 1 for key, tensor in STATE.items()}
    torch.save({"state_dict": plain, name: STATE}, file)
    network = zeroed(make_8())
    said = load_weights(file, network)
    assert said.endswith(f"{name} (a running average; {file}:state_dict takes state_dict)")
    assert same(network, STATE)
    assert load_weights(f"{file}:state_dict", network).endswith(f"{file}, state_dict")
    assert same(network, plain)
    with pytest.raises(BackboneError, match=f"holds no 'other'; it holds: state_dict, {name}"):
        load_weights(f"{file}:other", network)


def test_sharded_safetensors_are_read_by_their_index_or_folder(tmp_path: Path) -> None:
    names = list(STATE)
    for part in (0, 1):
        safetensors.torch.save_file({name: STATE[name] for name in names[part::2]}, tmp_path / f"m-{part}.safetensors")
    index = {"weight_map": {name: f"m-{k % 2}.safetensors" for k, name in enumerate(names)}}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps(index))
    for place in (tmp_path, tmp_path / "m.safetensors.index.json"):
        network = zeroed(make_8())
        load_weights(place, network)
        assert same(network, STATE)
    (tmp_path / "m.safetensors.index.json").unlink()
    with pytest.raises(BackboneError, match=r"holds 2 \.safetensors files and no index of them; name one"):
        load_weights(tmp_path, make_8())


def test_a_larger_network_is_named(tmp_path: Path) -> None:
    torch.save({**STATE, "trunk.9.weight": torch.ones(3)}, tmp_path / "w.pt")
    with pytest.raises(BackboneError, match=r"of another network: the network has no trunk\.9\.weight"):
        load_weights(tmp_path / "w.pt", make_8())


def zeroed(network: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return network


def same(network: nn.Module, state: dict) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


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
