"""Several ranks train one network as one process would. Tests start two processes by torchrun or `fabric run`, or
fork them, which spares their imports.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import coterie
from coterie.backbones import build
from coterie.cli import LIMIT_REACHED
from coterie.data.batches import Augmentation, training_batches
from coterie.errors import DataError
from coterie.run.folder import Run
from coterie.system.ranks import Ranks
from helpers import ROOT, TINY, make_settings, make_splits
from ranks import free_port, two_forked

pytestmark = pytest.mark.slow

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
SECONDS_TO_START = 900  # of processes that import torch, on a machine that is busy with something else


def torchrun(out: Path, mode: str = "") -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*launcher, str(ROOT / "tests/ranks.py"), str(out), mode]


def run(command: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=SECONDS_TO_START)


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> tuple[Run, str]:
    """What two ranks leave, and what they print."""
    place = tmp_path_factory.mktemp("two")
    done = run(torchrun(place / "two"))
    assert done.returncode == 0, done.stderr
    return Run.open_complete(place / "two"), done.stdout


@pytest.fixture(scope="module")
def one_process(tmp_path_factory) -> Run:
    place = tmp_path_factory.mktemp("one") / "run"
    coterie.fit(make_settings(), place, splits=make_splits())
    return Run.open_complete(place)


def test_two_ranks_give_the_loss_curve_and_the_weights_of_one_process(
    one_process: Run, two_ranks: tuple[Run, str], tmp_path: Path
) -> None:
    two, said = two_ranks
    assert "base: 2 ranks take 16 of each batch of 32; the learning rate is 0.05, as set" in said
    assert "rank 0 goes on" in said
    assert "rank 1 goes on" not in said
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
    codes, said = two_forked(two.path, "", tmp_path / "again", SECONDS_TO_START)
    assert codes == [0, 0], said
    assert "base:" not in said


def test_a_limit_stops_all_ranks_and_the_next_start_ends_with_the_same_bits(
    two_ranks: tuple[Run, str], tmp_path: Path
) -> None:
    out = tmp_path / "cut"
    codes, said = two_forked(out, "stops", tmp_path / "stopped", SECONDS_TO_START)
    assert codes == [LIMIT_REACHED, LIMIT_REACHED], said
    assert {"rank 0 stops: enough", "rank 1 stops: enough"} <= set(said.splitlines())
    assert [file.name for file in (out / "checkpoint").iterdir()] == ["base.safetensors"]
    assert not (out / "base.safetensors").exists()
    codes, said = two_forked(out, "", tmp_path / "resumed", SECONDS_TO_START)
    assert codes == [0, 0], said
    whole = two_ranks[0]
    for name in whole.manifest.files:
        if name.endswith(".safetensors") or name in ("metrics.json", "history.json"):
            assert (out / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_initial_weights_reach_all_ranks(tmp_path: Path) -> None:
    """The rate is so small that training leaves them; each rank tells what it ends with."""
    theirs = build("convnet-8", 5, make_splits().preprocessing, seed=9)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    codes, said = two_forked(tmp_path / "run", f"init:{tmp_path / 'w.pt'}", tmp_path / "said", SECONDS_TO_START)
    assert codes == [0, 0], said
    [of_rank_1] = re.findall(r"rank 1 ends with (\[.*\])", said)
    first, expected = next(iter(theirs.state_dict().items()))
    torch.testing.assert_close(torch.tensor(json.loads(of_rank_1)), expected.flatten(), atol=1e-6, rtol=0)
    kept = Run.open(tmp_path / "run").read_tensors("base.safetensors")
    torch.testing.assert_close(kept[first], expected, atol=1e-6, rtol=0)
    assert Run.open(tmp_path / "run").manifest.network.origin.startswith("initial weights: 56 of 58 tensors")


def test_a_rank_that_dies_ends_the_others_and_is_named(tmp_path: Path) -> None:
    command = torchrun(tmp_path / "two", "dies")
    launcher = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + SECONDS_TO_START
    while not (tmp_path / "two.died").exists():
        assert launcher.poll() is None, launcher.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # Left alone, the others would wait for half an hour. How soon they end: benchmarks/speed/ddp.md.
    _, error = launcher.communicate(timeout=SECONDS_TO_START)
    assert launcher.returncode != 0
    assert "rank      : 1 (local_rank: 1)" in error
    assert "Signal 9" in error
    assert not Run.open(tmp_path / "two").manifest.complete


def test_fabric_run_trains_the_base_of_the_command_by_two_ranks(tmp_path: Path) -> None:
    pytest.importorskip("click", reason="fabric run needs click")
    # What pip makes of the entry point, wherever it put it.
    (tmp_path / "coterie").write_text("import sys\nfrom coterie.cli import main\nsys.exit(main())\n")
    (tmp_path / "tiny.yaml").write_text(TINY)
    # What `fabric run` calls.
    launcher = [sys.executable, "-m", "lightning_fabric.cli", "--accelerator", "cpu", "--devices", "2"]
    fit = ["fit", "--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    done = run([*launcher, "--main-port", str(free_port()), str(tmp_path / "coterie"), *fit])
    assert done.returncode == 0, done.stderr
    assert re.search(r"base: 2 ranks take \d+ of each batch of \d+", done.stdout)
    assert done.stdout.count("report: ") == 1
    assert Run.open_complete(tmp_path / "run").manifest.seconds["base.safetensors"] > 0


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
    splits = make_splits(n_classes=2, n_per_class=1)
    batches = training_batches(
        splits.train, splits.preprocessing, Augmentation(0, False), batch_size=2, seed=0, workers=0
    )
    with pytest.raises(DataError, match="2 training samples cannot be shared out over 3 ranks"):
        batches.share_out(Ranks(0, 3))
