"""Partitions of a run, or one cluster of all classes where specialists could put too little right."""

from pathlib import Path

import numpy as np
import pytest

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.run.contents import read_history
from coterie.run.folder import Run
from coterie.run.reporting import read_base_logits
from coterie.run.values import partition_of
from helpers import Notes, changed, weights


def asking(settings: FitSettings, least_open: float) -> FitSettings:
    return changed(settings, partition={**settings.partition.model_dump(), "least_open": least_open})


def held(run: Path) -> float:
    """Of the base's errors on validation, the share in the likeliest cluster, sample by sample."""
    opened = Run.open_complete(run)
    partition = partition_of(opened.manifest)
    known = read_base_logits(opened, "validation")
    assert known is not None
    logits_NC, label_N = known
    inside = []
    for logits_C, label in zip(logits_NC, label_N, strict=True):
        proba_C = np.exp(logits_C - logits_C.max())
        likeliest = max(range(partition.n_clusters), key=lambda k: float(proba_C[partition.classes(k)].sum()))
        if logits_C.argmax() != label:
            inside.append(label in partition.classes(likeliest))
    return float(np.mean(inside))


@pytest.mark.parametrize(("clusters", "bits", "kept"), [([3], 32, 32), ([3], 2, 6), ([3, 2], 2, 8)])
def test_one_cluster_is_taken_where_too_few_errors_lie_inside(
    clusters: list[int],
    bits: float,
    kept: float,
    tmp_path: Path,
    settings: FitSettings,
    splits: Splits,
    trained_run: Path,
) -> None:
    """Its specialist has the epochs of all partitions, and is kept in the bits of all specialists, at most 8."""
    share = held(trained_run)
    assert 0 < share < 1
    progress, specialist = Notes(), settings.specialist.model_dump()
    partition = {**settings.partition.model_dump(), "clusters": clusters, "together": len(clusters) > 1}
    asked = changed(settings, specialist={**specialist, "bits": bits}, partition=partition)
    coterie.fit(asking(asked, share + 0.01), tmp_path / "one", splits=splits, progress=progress)
    one = Run.open_complete(tmp_path / "one")
    assert partition_of(one.manifest).n_clusters == 1
    assert one.manifest.groupings == (((*range(len(splits.labels)),),),)
    said = f"{100 * share:.0f}\N{NO-BREAK SPACE}%"
    assert any(said in note and "--partition.clusters" in note for note in progress.notes)
    # The same bits as of a run that was asked for one cluster.
    epochs = len(clusters) * settings.specialist.epochs
    coterie.fit(
        changed(
            settings,
            partition={**settings.partition.model_dump(), "clusters": [1]},
            specialist={**specialist, "bits": kept, "epochs": epochs},
        ),
        tmp_path / "same",
        splits=splits,
    )
    assert weights(tmp_path / "one") == weights(tmp_path / "same")
    assert len(read_history(one)["specialist 0 of 1"]) == epochs


def test_the_clusters_stay_where_enough_do(
    tmp_path: Path, settings: FitSettings, splits: Splits, trained_run: Path
) -> None:
    progress = Notes()
    coterie.fit(asking(settings, held(trained_run)), tmp_path / "run", splits=splits, progress=progress)
    assert weights(tmp_path / "run") == weights(trained_run)
    assert not any("least-open" in note for note in progress.notes)


@pytest.mark.parametrize("share", [-0.1, 1.1, "half"])
def test_a_share_is_from_0_to_1(share: object) -> None:
    with pytest.raises(coterie.errors.SettingsError, match="in partition: least_open = "):
        FitSettings.from_values({"partition": {"least_open": share}})
