"""The command line, as a user types it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coterie.cli import main
from coterie.errors import LimitError, TrainingError
from coterie.run.folder import Run
from coterie.run.reporting import read_outputs
from coterie.system.limits import Limits
from helpers import TINY, hears_ctrl_c

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    file.write_text(TINY)
    return file


@pytest.fixture(scope="module")
def run(tiny_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["fit", "--config", str(tiny_yaml), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, shape in (("grey.png", (32, 32)), ("colour.jpg", (50, 40, 3))):
        Image.fromarray(rng.integers(0, 256, size=shape, dtype=np.uint8)).save(folder / name)
    return [str(folder / "grey.png"), str(folder / "colour.jpg")]


def coterie(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coterie", *arguments], capture_output=True, text=True, check=False, timeout=600
    )


def test_a_newcomer_runs_everything(tiny_yaml: Path, tmp_path: Path, pictures: list[str]) -> None:
    out = tmp_path / "run"
    fit = coterie("fit", "--config", str(tiny_yaml), "--out", str(out), "--specialist.epochs", "2")
    assert fit.returncode == 0, fit.stderr
    assert "Plan" in fit.stdout
    assert "generated" in fit.stdout  # the embedded data set says so of itself
    assert re.search(r"base \d+\.\d\d\s%, ensemble \d+\.\d\d\s%", fit.stdout)
    assert re.search(r"rule: .*routed", fit.stdout)
    assert "<!DOCTYPE html>" in (out / "report.html").read_text()
    assert json.loads((out / "manifest.json").read_text())["settings"]["specialist"]["epochs"] == 2
    predict = coterie("predict", str(out), *pictures, "--format", "jsonl")
    assert [json.loads(line)["file"] for line in predict.stdout.splitlines()] == pictures
    assert coterie("info", str(out)).returncode == 0


def test_evaluate_prints_the_figures_of_the_stored_logits(run: Path, capsys) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((run / "metrics.json").read_text())["test"]
    assert main(["evaluate", str(run), "--split", "validation"]) == 0
    assert "restricted" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--split", "all"]) == 1
    assert "needs --source" in capsys.readouterr().err


def test_evaluate_on_a_source_runs_the_networks(run: Path, capsys) -> None:
    assert main(["evaluate", str(run), "--source", "glyphs", "--json"]) == 0
    fresh = json.loads(capsys.readouterr().out)
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert fresh["n_samples"] == stored["n_samples"]
    assert fresh["ensemble_top1"] == pytest.approx(stored["ensemble_top1"], abs=0.01)


def test_predict_tells_what_was_decided(run: Path, pictures: list[str], capsys) -> None:
    assert main(["predict", str(run), *pictures]) == 0
    table = capsys.readouterr().out
    assert "probability" in table
    assert main(["predict", str(run), *pictures, "--format", "jsonl", "--top", "2"]) == 0
    for line in capsys.readouterr().out.splitlines():
        answer = json.loads(line)
        assert {"file", "predicted", "probability", "routed", "cluster", "base_top"} <= set(answer)
        assert len(answer["base_top"]) == 2


def test_report_and_info(run: Path, capsys) -> None:
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert "<svg" in (run / "report.html").read_text()
    assert main(["info", str(run)]) == 0
    assert "finished" in capsys.readouterr().out


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "copy")


def test_tune_chooses_anew_and_everything_follows(copied: Path, pictures: list[str], capsys) -> None:
    wish = ["--combiner", "blend", "--top", "2", "--score", "margin", "--threshold", "0.2"]
    assert main(["tune", str(copied), *wish]) == 0
    printed = capsys.readouterr().out
    assert "blend" in printed
    assert re.search(r"base \d+\.\d\d\s%, ensemble \d+\.\d\d\s%", printed)
    gate = json.loads((copied / "manifest.json").read_text())["gate"]
    assert (gate["score"], gate["top"], gate["threshold"]) == ("margin", 2, 0.2)
    assert gate["limits"] == {"threshold": 0.2}
    assert {row["combiner"] for row in gate["tried"]} == {"blend, top 2", "blend, weights by cluster, top 2"}
    assert main(["evaluate", str(copied), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((copied / "metrics.json").read_text())["test"]
    assert main(["evaluate", str(copied), "--source", "glyphs", "--json"]) == 0
    fresh = json.loads(capsys.readouterr().out)
    assert fresh["ensemble_top1"] == pytest.approx(report["ensemble_top1"], abs=0.01)
    assert main(["predict", str(copied), *pictures, "--format", "jsonl"]) == 0
    for line in capsys.readouterr().out.splitlines():
        answer = json.loads(line)
        assert answer["score_name"] == "margin"
        assert len(answer["specialists"]) <= (2 if answer["routed"] else 0)  # those without weight are not asked
    assert main(["predict", str(copied), *pictures]) == 0
    assert "probability" in capsys.readouterr().out
    assert main(["info", str(copied)]) == 0
    assert "top 2, routed at 0.2 and above (margin)" in capsys.readouterr().out
    assert "has changed since it was timed" in (copied / "report.html").read_text()


def test_tune_takes_a_budget(copied: Path, capsys) -> None:
    assert main(["tune", str(copied), "--combiner", "blend", "--passes", "1"]) == 0
    assert "so 1.00 forward passes on average" in capsys.readouterr().out


def test_tuning_back_to_the_papers_rule_gives_the_papers_figures(tiny_yaml: Path, copied: Path, tmp_path: Path) -> None:
    rule = ["--gate.score", "entropy", "--gate.combiner", "hard"]
    assert main(["fit", "--config", str(tiny_yaml), "--out", str(tmp_path / "paper"), *rule]) == 0
    # Within the passes that a recipe allows, which bind or do not by a machine's last bits.
    for arguments in (["--combiner", "average"], ["--combiner", "hard", "--score", "entropy", "--passes", "1.5"]):
        assert main(["tune", str(copied), *arguments]) == 0
    tuned, paper = (json.loads((path / "metrics.json").read_text()) for path in (copied, tmp_path / "paper"))
    assert tuned == paper


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--passes", "0.5"], "passes = 0.5"),
        (["--risk", "0"], "no rule bounds the error rate by it"),
        (["--threshold", "0.3"], "a threshold needs a score by name"),
        (["--score", "margin", "--threshold", "0.3", "--routed", "0.5"], "a threshold leaves nothing to choose"),
    ],
)
def test_a_wish_that_cannot_be_met_leaves_the_run_as_it_was(copied: Path, arguments, message, capsys) -> None:
    before = (copied / "manifest.json").read_bytes()
    assert main(["tune", str(copied), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert (copied / "manifest.json").read_bytes() == before


def test_infinite_logits_are_refused(copied: Path, capsys) -> None:
    folder = Run.open(copied)
    logits = folder.read_arrays("logits/validation.safetensors")
    logits["packed_NM"][0, 0] = np.inf
    folder.write_arrays("logits/validation.safetensors", logits)
    assert main(["tune", str(copied)]) == 1
    assert "packed_NM: NaN or infinite values" in capsys.readouterr().err


def test_seeds_are_runs_on_the_same_splits_and_a_failure_loses_none_of_the_others(
    tmp_path: Path, tiny_yaml: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie.pipeline import runs

    def failing(settings, *args, **kwargs):
        if settings.seed == 4:
            raise TrainingError("the loss became nan at step 3")
        return fit(settings, *args, **kwargs)

    fit = runs.fit
    monkeypatch.setattr(runs, "fit", failing)
    command = ["fit", "--config", str(tiny_yaml), "--seed", "3", "--seeds", "3", "--workers", "1", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "mean gain over 2 seeds" in said.out
    assert "seed 4: the loss became nan" in said.err
    labels = [read_outputs(Run.open_complete(tmp_path / "out" / f"seed-{k}"), "test").label_N for k in (3, 5)]
    np.testing.assert_array_equal(*labels)
    monkeypatch.undo()
    assert main([*command, str(tmp_path / "out")]) == 0
    table = capsys.readouterr().out
    gains = []

    def shown(share: float) -> str:
        return f"{100 * share:.2f}".replace("-", "\N{MINUS SIGN}")

    for seed in (3, 4, 5):
        test = json.loads((tmp_path / "out" / f"seed-{seed}" / "metrics.json").read_text())["test"]
        base, ensemble, gain = (shown(test[name]) for name in ("base_top1", "ensemble_top1", "gain"))
        assert re.search(rf"seed {seed} +{base} +{ensemble} +[+]?{gain} \(.*\) +{test['mean_passes']:.2f}", table)
        gains.append(100 * test["gain"])
    assert re.search(rf"mean gain over 3 seeds: [+]?{shown(np.mean(gains) / 100)}", table)
    assert main(["fit", "--seeds", "0", "--out", str(tmp_path / "none")]) == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_limit_counts_for_all_seeds_and_the_same_command_goes_on(
    workers: str, tmp_path: Path, tiny_yaml: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from coterie.pipeline import runs

    class Reached(Limits):
        def check(self) -> None:
            if any((tmp_path / "out").glob("seed-*/base.safetensors")):
                raise LimitError("--max-time 1h is over")

    monkeypatch.setattr(runs, "Limits", Reached)
    command = ["fit", "--config", str(tiny_yaml), "--seeds", "2", "--workers", workers, "--out", str(tmp_path / "out")]
    assert main(command) == 75
    error = capsys.readouterr().err
    assert "--max-time 1h is over\nThe state is kept in the run folder; the same command goes on" in error
    monkeypatch.undo()
    assert main(command) == 0
    assert "mean gain over 2 seeds" in capsys.readouterr().out


def help_of(command: str, capsys: pytest.CaptureFixture[str], option: str = "--help") -> str:
    with pytest.raises(SystemExit) as left:
        main([command, option])
    assert left.value.code == 0
    return capsys.readouterr().out


def test_the_options_of_tune_are_these(capsys) -> None:
    options = set(re.findall(r"--([a-z][a-z.-]*[a-z])", help_of("tune", capsys)))
    assert options == {"help", "score", "combiner", "top", "threshold", "passes", "routed", "risk"}


def test_a_run_is_the_base_of_another_with_its_settings(run: Path, tmp_path: Path, capsys) -> None:
    other = tmp_path / "other"
    assert main(["fit", "--base", str(run), "--out", str(other), "--partition.clusters", "2"]) == 0
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["settings"]["backbone"] == "convnet-8"
    assert len(manifest["partition"]["members"]) == 2
    assert (other / "base.safetensors").read_bytes() == (run / "base.safetensors").read_bytes()
    assert "specialists" in capsys.readouterr().out
    assert main(["fit", "--base", str(run), "--out", str(tmp_path / "third"), "--seed", "9"]) == 1
    assert "they differ in seed" in capsys.readouterr().err


def test_a_base_of_ones_own_is_evaluated_and_not_trained(tmp_path: Path, tiny_yaml: Path, monkeypatch, capsys) -> None:
    """A network of another library with weights from a file; and a function's, which a run may not call by itself."""
    import torch

    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 220))\n"
    )
    state = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 220)).state_dict()
    torch.save(state, "mine.pt")
    fit = ["fit", "--config", str(tiny_yaml), "--base", "mine:make", "--weights", "mine.pt", "--out", "run"]
    assert main([*fit, "--specialist.trainable", "head"]) == 0
    capsys.readouterr()
    assert json.loads(Path("run/manifest.json").read_text())["seconds"]["base.safetensors"] == 0
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save("a.png")
    assert main(["predict", "run", "a.png"]) == 1
    assert "If you trust it: --trust mine:make" in capsys.readouterr().err
    assert main(["predict", "run", "a.png", "--trust", "mine:make"]) == 0
    assert main(["fit", "--base", "run", "--out", "second"]) == 1
    assert "runs no code unasked" in capsys.readouterr().err
    assert main(["compare", "run", "--no-train"]) == 1
    assert "runs no code unasked" in capsys.readouterr().err
    assert main(["compare", "run", "--no-train", "--trust", "mine:make"]) == 0
    assert "base, calibrated" in capsys.readouterr().out


def test_a_finished_run_is_not_done_again(tiny_yaml: Path, run: Path, capsys) -> None:
    assert main(["fit", "--config", str(tiny_yaml), "--out", str(run)]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan_and_leaves_nothing(tiny_yaml: Path, tmp_path: Path, capsys) -> None:
    assert main(["fit", "--config", str(tiny_yaml), "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    assert "3 specialists" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nowhere"], "nowhere is not a coterie run: it has no manifest.json"),
        (["fit", "--out", "x", "--config", "nowhere.yaml"], "cannot read the settings file nowhere.yaml"),
        (["fit", "--out", "x", "--base.epochs", "0"], "epochs = 0: Input should be greater than or equal to 1"),
        (["fit", "--out", "x", "--data.source", "parquet:/nowhere"], "/nowhere"),
        (["fit", "--out", "x", "--data.source", "imagenet"], "must be glyphs, cifar100"),
        (["fit", "--out", "x", "--data.train-per-class", "2", "--partition.clusters", "900"], "allowed: 1 to "),
        (["fit", "--out", "x", "--data.train-per-class", "2", "--backbone", "vgg"], "unknown backbone 'vgg'"),
        (["fit", "--out", "x", "--config"], "--config needs the path"),
        (["fit", "--out", "x", "--max-time", "soon"], "max_time = 'soon': must be a number above 0 and a unit"),
        (["fit", "--out", "x", "--max-memory", "4GB"], "max_memory = '4GB': must be a number above 0 and a unit"),
        (["fit", "--out", "x", "--checkpoint-every", "0"], "checkpoint_every = 0: Input should be greater"),
        (["fit", "--out", "x", "--data.train-per-class", "2", "--base", "vgg"], "unknown backbone 'vgg'"),
        (["fit", "--out", "x", "--data.mean", "0.5"], "mean and std must be given together"),
        (["fit", "--out", "x", "--data.train-per-class", "2", "--specialist.trainable", "layer9"], "no part 'layer9'"),
        (["headroom", "nowhere.npz", "--out", "x"], "cannot read nowhere.npz"),
        (["headroom", "nowhere", "--out", "x"], "nowhere is not a file of logits; allowed: .npz"),
        (["headroom", "nowhere.npz", "--out", "x", "--gain", "0"], "--gain 0.0: must be above 0"),
        (["refit", "nowhere", "--cluster", "0", "--source", "folder:y", "--out", "x"], "is not a coterie run"),
        (["add-class", "nowhere", "zebra", "--source", "folder:y", "--out", "x"], "is not a coterie run"),
        (["distil", "nowhere", "--out", "x"], "is not a coterie run"),
    ],
)
def test_bad_input_is_one_clear_message_and_no_traceback(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert len(error.splitlines()) <= 20
    assert not (tmp_path / "x").exists()


def test_pictures_that_are_none_are_named_and_left_out_only_if_asked(
    run: Path, pictures: list[str], tmp_path: Path, capsys
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(pictures[0]).read_bytes()[:60])
    files = [pictures[0], str(broken), str(tmp_path / "missing.png")]
    assert main(["predict", str(run), *files]) == 1
    error = capsys.readouterr().err
    assert "2 of 3 files cannot be read" in error
    assert "broken.png" in error
    assert "missing.png" in error
    assert main(["predict", str(run), *files, "--skip-broken", "--format", "jsonl"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert captured.err.count("skipped: ") == 2


def test_a_flipped_byte_in_the_weights_is_named(run: Path, tmp_path: Path, pictures: list[str], capsys) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    weights = bytearray((copy / "base.safetensors").read_bytes())
    weights[-5] ^= 1
    (copy / "base.safetensors").write_bytes(weights)
    assert main(["predict", str(copy), pictures[0]]) == 1
    assert "base.safetensors: its bytes have changed" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_keep_what_is_finished_and_say_how_to_go_on(
    number: int, code: int, tiny_yaml: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "coterie", "fit", "--config", str(tiny_yaml), "--out", str(out)]
    command += ["--specialist.epochs", "500"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hears_ctrl_c
    )
    deadline = time.monotonic() + 600
    while not (out / "base.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    # A second process is told who holds the folder.
    assert main(["fit", *command[4:]]) == 1
    error = capsys.readouterr().err
    assert f"is being written by process {process.pid} on" in error
    assert "--specialist.epochs 500" in error
    os.kill(process.pid, number)
    _, error = process.communicate(timeout=300)
    assert process.returncode == code
    assert "interrupted: what a run folder holds is kept" in error
    assert "Traceback" not in error
    manifest = json.loads((out / "manifest.json").read_text())
    assert not manifest["complete"]
    assert "base.safetensors" in manifest["files"]
    assert not (out / ".lock.json").exists()


def test_a_limit_has_an_exit_code_of_its_own_and_the_same_command_goes_on(
    tiny_yaml: Path, tmp_path: Path, capsys
) -> None:
    command = ["fit", "--config", str(tiny_yaml), "--out", str(tmp_path / "run")]
    assert main([*command, "--max-memory", "1MiB"]) == 75
    error = capsys.readouterr().err
    assert error.startswith("stopped: --max-memory 1MiB is reached")
    assert "the same command goes on" in error
    assert main([*command, "--max-time", "1d", "--checkpoint-every", "7"]) == 0
    assert main(["info", str(tmp_path / "run")]) == 0
    assert re.search(r"disk +\d+\.\d MiB; at most \d+ MiB", capsys.readouterr().out)


def test_help_names_every_command_and_needs_no_torch() -> None:
    code = (
        "import sys\nfrom coterie.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, 'imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in (
        "fit",
        "evaluate",
        "tune",
        "predict",
        "serve",
        "headroom",
        "partition",
        "refit",
        "add-class",
        "distil",
        "report",
        "info",
    ):
        assert re.search(rf"\b{command}\b", done.stdout)


def test_the_options_of_fit_are_these(capsys) -> None:
    listed = help_of("fit", capsys, "--help-all")
    options = set(re.findall(r"--([a-z][a-z.-]*[a-z])", listed))
    training = {
        "epochs",
        "batch-size",
        "optimizer",
        "learning-rate",
        "momentum",
        "weight-decay",
        "schedule",
        "warmup-share",
        "label-smoothing",
        "clip-norm",
        "average-decay",
        "average-warmup",
        "no-average-warmup",
        "head-rate",
        "mixup",
        "cutmix",
    }
    expected = {
        *(
            "help",
            "out",
            "config",
            "base-only",
            "dry-run",
            "gain",
            "anyway",
            "seeds",
            "base",
            "trust",
            "backbone",
            "weights",
            "init",
            "names",
            "head",
            "recipe",
            "budget",
            "storage",
            "refit-head",
            "no-refit-head",
            "seed",
            "checkpoint-every",
            "max-time",
            "max-memory",
        ),
        *("track.tensorboard", "track.no-tensorboard", "track.mlflow", "track.client"),
        *(f"{stage}.{name}" for stage in ("base", "specialist") for name in training),
        "specialist.trainable",
        "specialist.views",
        "specialist.bits",
        "specialist.patience",
        "specialist.batch-norm",
        *(
            "partition.method",
            "partition.clusters",
            "partition.together",
            "partition.least-open",
            "partition.no-together",
            "partition.max-size",
            "partition.groups",
            "partition.embedding",
            "partition.overlap",
            "gate.score",
            "gate.combiner",
            "gate.threshold",
            *("gate.top", "gate.passes", "gate.routed", "gate.risk"),
        ),
        *("hardware.accelerator", "hardware.precision", "hardware.threads"),
        *("hardware.compile", "hardware.no-compile", "hardware.specialist-threads"),
        *("engine", "address", "workers"),
        *("data.source", "data.image", "data.label", "data.image-size", "data.validation-share", "data.test-share"),
        *(
            "data.skip-broken",
            "data.no-skip-broken",
            "data.memory-gib",
            "data.workers",
            "data.augment",
            "data.crop-padding",
            "data.cutout",
            "data.standardize",
        ),
        *("data.mean", "data.std", "data.ignore", "data.root", "data.separator", "data.encoding", "data.split"),
        *("data.flip", "data.train-per-class", "data.split-seed", "data.levels", "data.background"),
        *("data.merge-names", "data.no-merge-names", "data.skip-unknown", "data.no-skip-unknown"),
        *("data.configuration", "data.modality", "data.text", "data.columns", "data.categorical"),
        *("data.text-as", "data.buckets", "data.longest", "data.imbalance", "data.sampling"),
    }
    assert options == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("headroom", {"out", "clusters", "methods", "gain", "combiner", "names", "groups", "trust"}),
        ("refit", {"cluster", "source", "out", "further", "trust"}),
        ("add-class", {"source", "out"}),
        ("serve", {"host", "port", "token", "max-batch", "max-wait", "max-body", "max-samples", "workers", "trust"}),
        ("push", {"private"}),
        ("distil", {"out", "epochs", "learning-rate", "weight", "no-controls", "trust", "unlabelled"}),
        (
            "compare",
            {"logits", "superclasses", "members", "train", "allow-shared", "json", "trust"}
            | {"engine", "address", "workers"},
        ),
        (
            "reproduce",
            {"out", "recipe", "seeds", "first-seed", "base-epochs", "source", "superclasses", "tables-only", "dry-run"}
            | {"engine", "address", "workers"},
        ),
    ],
)
def test_the_options_of_other_commands_are_these(command: str, expected: set[str], capsys) -> None:
    listed = help_of(command, capsys)
    options = set(re.findall(r"^[│|]? +(?:-h, )?--([a-z-]*[a-z])", listed, flags=re.MULTILINE))
    assert options == {"help", *expected}


def test_headroom_of_a_run_and_the_command_that_follows(run: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "headroom"
    arguments = ["headroom", str(run), "--out", str(out), "--clusters", "3", "--methods", "average", "--gain", "0.01"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    values = json.loads((out / "headroom.json").read_text())
    assert ("Train them" in printed) == values["advice"]["train"]
    assert (f"next: {values['next_command']}" in printed) == values["advice"]["train"]
    assert "still learning" in " ".join(printed.split())  # two epochs are no training


def test_the_settings_of_a_base_run_are_the_defaults(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    assert main(["fit", "--base", str(run), "--partition.clusters", "2", "--out", str(out)]) == 0
    ours, theirs = (json.loads((path / "manifest.json").read_text()) for path in (out, run))
    assert (ours["settings"]["partition"]["clusters"], ours["settings"]["backbone"]) == ([2], "convnet-8")
    assert ours["files"]["base.safetensors"] == theirs["files"]["base.safetensors"]


def test_the_version_is_printed(capsys) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"coterie \d+\.\d+\.\d+\n", capsys.readouterr().out)
