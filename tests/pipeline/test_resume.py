"""What a stranger, or a fault, left of a training that was cut short."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import CoterieError, LimitError, TrainingError
from coterie.system.limits import Limits
from coterie.training.checkpoint import State

STATE = Path("checkpoint/base.safetensors")


class AfterSteps(Limits):
    """A limit that is reached after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LimitError("enough")


@pytest.fixture
def cut_short(tmp_path: Path, settings: FitSettings, splits: Splits) -> Path:
    run = tmp_path / "run"
    with pytest.raises(LimitError):
        coterie.fit(settings, run, splits=splits, limits=AfterSteps(9))
    return run


def rewrite_state(file: Path, change: Callable[[State], State]) -> None:
    state = safetensors.torch.load(file.read_bytes()[hashlib.sha256().digest_size :])
    content = safetensors.torch.save(change(state))
    file.write_bytes(hashlib.sha256(content).digest() + content)


def many_epochs(state: State) -> State:
    plain = state["plain"].numpy().tobytes().replace(b'"history": [[', b'"history": [' + 10**6 * b"[1.0, 0.5], " + b"[")
    return {**state, "plain": torch.frombuffer(bytearray(plain), dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {}, "no plain"),
        (many_epochs, "1000001 epochs"),
        (lambda state: {**state, "steps": torch.zeros(10**6, 2)}, "1000000 steps"),
        (lambda state: {**state, "network.head.weight": torch.zeros(1)}, "head.weight has shape"),
        (lambda state: {k: v for k, v in state.items() if k != "seconds"}, None),
        (lambda state: {**state, "seconds": torch.zeros(3)}, None),
    ],
)
def test_a_state_that_no_training_can_go_on_from_is_named(
    cut_short: Path, settings: FitSettings, splits: Splits, change: Callable[[State], State], message: str | None
) -> None:
    rewrite_state(cut_short / STATE, change)
    limits = AfterSteps(3)
    if message is None:  # it takes no part in the training
        with pytest.raises(LimitError):
            coterie.fit(settings, cut_short, splits=splits, limits=limits)
        return
    with pytest.raises(TrainingError, match=rf"{message}.*Delete that folder, and the same command begins"):
        coterie.fit(settings, cut_short, splits=splits, limits=limits)
    (cut_short / STATE).unlink()
    with pytest.raises(LimitError):
        coterie.fit(settings, cut_short, splits=splits, limits=limits)


def test_stage_logits_of_other_samples_are_named(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    from coterie.pipeline.fit import fit_base
    from helpers import rewrite_tensors

    fit_base(settings, tmp_path / "run", splits=splits)
    name = "logits/stages/validation/base.safetensors"
    rewrite_tensors(tmp_path / "run", name, lambda tensors: {k: tensor[1:] for k, tensor in tensors.items()})
    with pytest.raises(CoterieError, match=rf"{name} does not hold what it should: logits_NC: shape \(63, 8\)"):
        coterie.fit(settings, tmp_path / "run", splits=splits)
