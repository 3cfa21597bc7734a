"""Several ranks train one network as one process would. Two tests start torchrun with two processes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import coterie
from conftest import make_settings, make_splits
from coterie.data.batches import Augmentation, training_batches
from coterie.errors import DataError, SettingsError
from coterie.ranks import Ranks
from coterie.run_folder import Run

SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import coterie
from conftest import make_settings, make_splits
from coterie.config import FitSettings
from coterie.progress import Progress

class Telling(Progress):
    def note(self, text):
        print(text, flush=True)

values = make_settings().to_values()
if len(sys.argv) > 3:
    values["base"]["epochs"] = 100_000
    if os.environ["RANK"] == "1":
        from coterie import training
        step, done = training.training_step, []
        def dying(*arguments):
            done.append(1)
            if len(done) == 20:
                os.kill(os.getpid(), signal.SIGKILL)
            return step(*arguments)
        training.training_step = dying
coterie.fit(FitSettings.from_values(values), sys.argv[2], splits=make_splits(), progress=Telling())
print("rank", os.environ["RANK"], "goes on", flush=True)
"""


def torchrun(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [*launcher, script, Path(__file__).parent, tmp_path / "two", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("one") / "run"
    coterie.fit(make_settings(), place, splits=make_splits())
    return Run.open_complete(place)


def test_two_ranks_give_the_loss_curve_and_the_weights_of_one_process(one_process: Run, tmp_path: Path) -> None:
    done = torchrun(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "base: 2 ranks take 16 of each batch of 32; the learning rate is 0.05, as set" in done.stdout
    assert "rank 0 goes on" in done.stdout
    assert "rank 1 goes on" not in done.stdout
    two = Run.open_complete(tmp_path / "two")
    for ours, theirs in zip(
        two.read_json("history.json")["base"], one_process.read_json("history.json")["base"], strict=True
    ):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["accuracy"] == pytest.approx(theirs["accuracy"], abs=0.006)  # one image of 192
    base = one_process.read_tensors("base.safetensors")
    for name, tensor in two.read_tensors("base.safetensors").items():  # running means and variances among them
        torch.testing.assert_close(tensor, base[name], rtol=2e-3, atol=1e-3)
    assert not list(two.path.rglob("*.tmp"))
    # Asked again, the finished run trains nothing, and rank 1 is not left waiting.
    again = torchrun(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "base:" not in again.stdout


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_others_within_a_minute_and_is_named(tmp_path: Path) -> None:
    started = time.monotonic()
    done = torchrun(tmp_path, "endless")
    assert done.returncode != 0
    assert time.monotonic() - started < 60 + 60  # the minute, and the start of two processes
    assert "rank      : 1 (local_rank: 1)" in done.stderr
    assert "Signal 9" in done.stderr
    assert not Run.open(tmp_path / "two").manifest.complete


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(5, 40), st.integers(0, 3), st.booleans())
def test_the_parts_of_all_ranks_are_disjoint_and_make_up_each_batch(
    world: int, batch_size: int, epoch: int, flip: bool
) -> None:
    splits = make_splits(n_per_class=7)

    def batches():
        return training_batches(
            splits.train, splits.preprocessing, Augmentation(2, flip, 3), batch_size=batch_size, seed=1, workers=0
        )

    whole, parts = batches(), []
    whole.share_out(Ranks())
    whole.batch_size -= whole.batch_size % world
    for rank in range(world):
        part = batches()
        part.share_out(Ranks(rank, world))
        parts.append(part.epoch(epoch, torch.device("cpu")))
    for (inputs, labels), *shares in zip(whole.epoch(epoch, torch.device("cpu")), *parts, strict=True):
        assert {len(share[1]) for share in shares} == {len(labels) // world}
        for rank, (some_inputs, some_labels) in enumerate(shares):
            assert torch.equal(some_inputs, inputs[rank::world])
            assert torch.equal(some_labels, labels[rank::world])


def test_batches_that_cannot_be_shared_out_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"base\.batch_size = 128 cannot be shared out evenly over 3 ranks"):
        Ranks(0, 3).check_batch_size(128)
    splits = make_splits(n_classes=2, n_per_class=1)
    batches = training_batches(
        splits.train, splits.preprocessing, Augmentation(0, False), batch_size=2, seed=0, workers=0
    )
    with pytest.raises(DataError, match="2 training samples cannot be shared out over 3 ranks"):
        batches.share_out(Ranks(0, 3))


def test_ranks_are_those_of_the_launcher(monkeypatch) -> None:
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert Ranks.of_environment() == Ranks(0, 1, 1)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LT_DEVICES", "4")
    assert Ranks.of_environment() == Ranks(3, 8, 4)
    assert "LT_DEVICES" not in os.environ
