"""Specialists that are probes: the network as it was before it was trained, whose head alone is fitted."""

from pathlib import Path

import numpy as np
import pytest
import torch

import coterie
from coterie.config import FitSettings
from coterie.config.recipes import RECIPE_GROUPS
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, DeclinedError, SettingsError
from coterie.pipeline import pilot, revise
from coterie.run.folder import Run
from coterie.run.names import specialist_files
from coterie.run.values import partition_of
from coterie.studies.comparison.study import compare_run
from helpers import changed


@pytest.fixture
def initial(finished_run: Path) -> Path:
    return finished_run / "base.safetensors"


@pytest.fixture
def probing(settings: FitSettings, initial: Path) -> FitSettings:
    values = settings.to_values()
    specialist = {**values["specialist"], "trainable": "probe"}
    return changed(settings, init=str(initial), specialist=specialist, partition={"clusters": [1]})


def test_a_probe_has_the_initial_weights_and_a_head_of_its_own(
    probing: FitSettings, splits: Splits, initial: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    fitted = coterie.fit(probing, tmp_path / "probed", splits=splits)
    run = Run.open_complete(tmp_path / "probed")
    (file,) = specialist_files(partition_of(run.manifest))
    started, base, probe = load_file(initial), load_file(run.path / "base.safetensors"), load_file(run.path / file)
    assert {name for name in probe if not torch.equal(probe[name], started[name])} == {"head.weight", "head.bias"}
    assert any(not torch.equal(base[name], started[name]) for name in started if not name.startswith("head"))
    loaded = coterie.load(run.path)
    np.testing.assert_array_equal(fitted.predict_proba(splits.test.samples), loaded.predict_proba(splits.test.samples))


def test_probes_are_fitted_anew_not_refitted(probing: FitSettings, splits: Splits, tmp_path: Path) -> None:
    coterie.fit(probing, tmp_path / "probed", splits=splits)
    with pytest.raises(ArtifactError, match="probes, which a fit with all samples makes anew"):
        revise.refit(tmp_path / "probed", 0, "folder:more", tmp_path / "new")


def test_probes_of_clusters(probing: FitSettings, splits: Splits, tmp_path: Path) -> None:
    several = changed(probing, partition={"clusters": [2]})
    coterie.fit(several, tmp_path / "probed", splits=splits)
    assert partition_of(Run.open_complete(tmp_path / "probed").manifest).n_clusters == 2


@pytest.mark.usefixtures("piloted")
def test_a_fine_tuned_base_whose_specialists_are_not_worth_it_is_told_of_the_probe(
    settings: FitSettings, splits: Splits, initial: Path, tmp_path: Path
) -> None:
    said = r"A probe of the weights that it started from adds \S+ points on validation.*--recipe probe"
    with pytest.raises(DeclinedError, match=said):
        coterie.fit(changed(settings, init=str(initial)), tmp_path / "tuned", splits=splits, gain=90)


@pytest.mark.usefixtures("piloted")
def test_a_network_of_a_library_that_came_trained_is_told_of_the_probe_too(
    settings: FitSettings, splits: Splits, initial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pilot, "trains_gently", lambda _: True)
    with pytest.raises(DeclinedError, match=r"as they were before: --recipe probe, with --init pretrained or FILE"):
        coterie.fit(changed(settings, weights=str(initial)), tmp_path / "came", splits=splits, gain=90)


def test_the_control_of_a_probe_is_the_base_trained_on(probing: FitSettings, splits: Splits, tmp_path: Path) -> None:
    coterie.fit(probing, tmp_path / "probed", splits=splits)
    compared = compare_run(Run.open_complete(tmp_path / "probed"), splits)
    own, copy = compared.row("specialists", False), compared.row("all-class copy", False)
    assert own is not None
    assert copy is not None
    assert 1 < own.cost.training < copy.cost.training
    assert Run.open(tmp_path / "probed" / "controls" / "all-classes").settings.specialist.trainable == "all"


def test_a_base_that_came_trained_is_probed_as_it_was_before(
    settings: FitSettings, splits: Splits, initial: Path, tmp_path: Path
) -> None:
    """Its own weights are the base's, and init is what the probe starts from."""
    from safetensors.torch import load_file, save_file

    fine = {name: tensor * 1.01 if tensor.ndim > 1 else tensor for name, tensor in load_file(initial).items()}
    save_file(fine, tmp_path / "fine.safetensors")
    both = {"weights": str(tmp_path / "fine.safetensors"), "init": str(initial)}
    values = {name: value for name, value in settings.to_values().items() if name not in RECIPE_GROUPS}
    with pytest.raises(SettingsError, match="give one or the other, or both with recipe probe"):
        FitSettings.from_values({**values, **both})
    probing = FitSettings.from_values({**values, **both, "recipe": "probe"})
    coterie.fit(probing, tmp_path / "probed", splits=splits)
    run = Run.open_complete(tmp_path / "probed")
    (file,) = specialist_files(partition_of(run.manifest))
    base, probe = load_file(run.path / "base.safetensors"), load_file(run.path / file)
    assert all(torch.equal(base[name], fine[name]) for name in fine)
    assert run.manifest.refit is None  # what came trained stays as it is
    body = next(name for name, tensor in fine.items() if tensor.ndim > 1 and not name.startswith("head"))
    assert torch.equal(probe[body], load_file(initial)[body])
    assert not torch.equal(probe[body], base[body])
