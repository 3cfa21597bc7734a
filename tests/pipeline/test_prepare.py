"""What is decided before a run is decided once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coterie.backbones import build
from coterie.cli import main
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, PartitionError
from coterie.partition import Partition
from coterie.pipeline import prepare as module
from coterie.pipeline.fit import fit
from coterie.pipeline.prepare import prepare
from coterie.run.caution import caution_on
from coterie.run.folder import Run
from coterie.run.hub import card_of
from helpers import changed


def features(folder: Path) -> list[str]:
    """Options of a run of a second, with given groups."""
    label_N = np.arange(160) % 8
    features_ND = np.eye(8)[label_N] + np.random.default_rng(0).normal(scale=0.3, size=(160, 8))
    np.savez(folder / "data.npz", features=features_ND, labels=label_N)
    (folder / "groups.txt").write_text("\n".join("aabbccdd"))
    training = ["--base.epochs", "2", "--base.batch-size", "16", "--specialist.epochs", "1"]
    groups = ["--partition.method", "given", "--partition.groups", str(folder / "groups.txt")]
    source = ["--data.source", f"features:{folder / 'data.npz'}", "--backbone", "linear"]
    return [*source, *training, "--specialist.batch-size", "16", *groups, "--hardware.threads", "1"]


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--base-only"]])
def test_a_command_builds_the_base_and_reads_data_and_groups_once(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counting(name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, **kwargs: calls.append(name) or original(*args, **kwargs))

    for name in ("make_base", "load_data", "read_column", "trained_part"):
        counting(name)
    assert main(["fit", *features(tmp_path), "--out", str(tmp_path / "run"), *more]) == 0
    assert sorted(calls) == ["load_data", "make_base", "read_column", "trained_part"]


def test_given_groups_say_how_many_clusters_there_are(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    (tmp_path / "groups.txt").write_text("\n".join("aabbccdd"))
    given = changed(settings, partition={"method": "given", "groups": str(tmp_path / "groups.txt")})
    prepared = prepare(given, splits=splits)
    assert prepared.n_clusters == (4,)
    assert prepared.groups == tuple("aabbccdd")


def test_a_known_partition_needs_no_groups(settings: FitSettings, splits: Splits) -> None:
    gone = changed(settings, partition={"method": "given", "groups": "gone.txt"})
    prepared = prepare(gone, splits=splits, partition=Partition.from_assignment([0, 0, 1, 1, 2, 2, 2, 2]))
    assert (prepared.n_clusters, prepared.groups) == ((3,), None)


def test_what_would_stop_a_run_is_refused_before_it(settings: FitSettings, splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(PartitionError, match="9 clusters of 8 classes"):
        prepare(changed(settings, partition={"clusters": [3, 9]}), splits=splits)
    run = Run.create_or_resume(tmp_path / "run", settings)
    run.update(disk_bytes=0)
    with pytest.raises(ArtifactError, match="has no trained base yet"):
        prepare(settings, splits=splits, base_run=run.path)


def test_more_threads_than_cores_are_said(
    settings: FitSettings, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "999")
    one = prepare(changed(settings, hardware={"accelerator": "cpu", "threads": 1}), splits=splits)
    assert one.notes == ()
    (note,) = replace(one, settings=changed(settings, hardware={"accelerator": "cpu"})).notes
    assert note.startswith("OMP_NUM_THREADS is 999, and this machine has ")
    (note,) = replace(one, settings=changed(settings, hardware={"threads": 900})).notes
    assert note.startswith("--hardware.threads is 900, and this machine has ")


def test_samples_that_a_trained_base_may_know_are_said(
    tmp_path: Path, settings: FitSettings, splits: Splits, capsys: pytest.CaptureFixture[str]
) -> None:
    def cautions(**given: Any) -> str:
        notes = prepare(settings, splits=given.pop("splits", cut), **given).notes
        return " ".join(note for note in notes if "cut from train" in note)

    cut = replace(splits, cut=("validation", "test"))
    shared = replace(splits, n_in_validation=len(splits.test) // 10 + 1)
    assert (
        "test samples are also in validation, by which the rule is chosen" in prepare(settings, splits=shared).notes[0]
    )
    assert prepare(settings, splits=replace(splits, n_in_validation=len(splits.test) // 10)).notes == ()
    network = build("convnet-8", 8, splits.preprocessing, 0)
    assert cautions() == ""  # it is trained here
    assert cautions(base=network).startswith("Validation and test are cut from train, and the base came trained")
    assert cautions(base=network, splits=replace(splits, cut=("validation",))).startswith("Validation is cut")
    assert cautions(base=network, splits=splits) == ""
    fit(settings, tmp_path / "first", splits=cut, base=network)
    first = Run.open_complete(tmp_path / "first")
    assert first.manifest.data.perhaps_seen == ("validation", "test")
    caution = caution_on(first.manifest.data, "test")
    assert caution in (first.path / "report.html").read_text()
    assert caution in card_of(first, "me/first")
    assert main(["evaluate", str(first.path)]) == 0
    assert caution in capsys.readouterr().out
    assert cautions(base=network, base_run=first.path) == caution
    first.update(data=first.manifest.data.model_copy(update={"perhaps_seen": ("validation",)}))
    assert "cut from train" not in card_of(first, "me/first")
