"""The base's head is fitted anew where it was fine-tuned here and that is clearly better."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.pipeline import base as module
from coterie.progress import Progress
from coterie.run.folder import Run
from helpers import changed

# One specialist that takes no training: the base is what is looked at.
QUICK = {"specialist": {"trainable": "probe", "epochs": 1}, "partition": {"clusters": [1]}}


@pytest.fixture
def fine_tuned(settings: FitSettings, finished_run: Path) -> FitSettings:
    """A fine-tuning so short, and at such a rate, that the head knows nothing yet."""
    training = {**settings.to_values()["base"], "epochs": 1, "learning_rate": 1e-6}
    init = str(finished_run / "base.safetensors")
    torch.manual_seed(0)
    return changed(settings, init=init, base=training, **QUICK)


def scrambled(path: Path, out: Path) -> Path:
    """Weights whose head is noise."""
    from safetensors.torch import save_file

    weights = load_file(path)
    weights["head.weight"] = torch.randn(weights["head.weight"].shape, generator=torch.Generator().manual_seed(0))
    save_file(weights, out)
    return out


def test_a_fitted_head_takes_the_place_of_one_that_lags(
    fine_tuned: FitSettings, splits: Splits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = changed(fine_tuned, init=str(scrambled(Path(str(fine_tuned.init)), tmp_path / "scrambled.safetensors")))
    runs = {}
    for name, refit in (("fitted", True), ("plain", False)):
        coterie.fit(changed(worse, refit_head=refit), tmp_path / name, splits=splits)
        runs[name] = Run.open_complete(tmp_path / name)
    record = runs["fitted"].manifest.refit
    assert record is not None
    assert record.taken
    assert record.gain > 0.1
    assert runs["plain"].manifest.refit is None
    fitted, plain = (load_file(run.path / "base.safetensors") for run in runs.values())
    assert {name for name in fitted if not torch.equal(fitted[name], plain[name])} == {"head.weight", "head.bias"}
    figures = {name: run.read_json("metrics.json")["validation"]["base_top1"] for name, run in runs.items()}
    assert figures["fitted"] - figures["plain"] == pytest.approx(record.gain)


def test_a_head_that_is_as_good_stays(
    fine_tuned: FitSettings, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ERRORS_TO_REFIT", 1e9)
    coterie.fit(fine_tuned, tmp_path / "fitted", splits=splits)
    record = Run.open_complete(tmp_path / "fitted").manifest.refit
    assert record is not None
    assert not record.taken
    # It is asked once: a run that goes on does not fit it again.
    monkeypatch.setattr(module, "fitted_head", lambda *_: pytest.fail("fitted again"))
    coterie.fit(fine_tuned, tmp_path / "fitted", splits=splits)


def test_a_base_that_is_in_use_already_stays_as_it_is(
    fine_tuned: FitSettings, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a run that an earlier version began."""

    class Interrupting(Progress):
        def stage(self, title: str, steps: int) -> None:
            if title == "evaluation":
                raise KeyboardInterrupt

    monkeypatch.setattr(module, "can_be_probed", lambda *_: False)
    with pytest.raises(KeyboardInterrupt):
        coterie.fit(fine_tuned, tmp_path / "begun", splits=splits, progress=Interrupting())
    monkeypatch.undo()
    before = (tmp_path / "begun" / "base.safetensors").read_bytes()
    coterie.fit(fine_tuned, tmp_path / "begun", splits=splits)
    assert (tmp_path / "begun" / "base.safetensors").read_bytes() == before
    assert Run.open_complete(tmp_path / "begun").manifest.refit is None


def test_a_base_from_fresh_weights_keeps_its_head(finished_run: Path) -> None:
    assert Run.open_complete(finished_run).manifest.refit is None
