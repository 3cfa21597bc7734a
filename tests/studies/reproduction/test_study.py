import json
from pathlib import Path

import pytest

from coterie.cli import main
from coterie.config import EngineSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError, SettingsError, TrainingError
from coterie.pipeline import runs
from coterie.progress import SILENT, Progress
from coterie.run.folder import Run
from coterie.studies.comparison.tables import compare_seeds
from coterie.studies.reproduction import study as module
from coterie.studies.reproduction.study import (
    NUMBERS_OF_CLUSTERS,
    ReproductionStudy,
    gather,
    paper_figures,
    recipe,
    reproduce,
)
from coterie.studies.reproduction.tables import Reproduction
from helpers import make_settings, make_splits

pytestmark = pytest.mark.slow

HERE = EngineSettings(workers=1)


@pytest.fixture(scope="module")
def splits() -> Splits:
    return make_splits(n_classes=10, n_per_class=12)


def make_study(out: Path, splits: Splits, seeds: tuple[int, ...]) -> ReproductionStudy:
    groups = out.parent / "groups.json"
    groups.write_text(json.dumps(["abc"[k % 3] for k in range(10)]))
    return ReproductionStudy(make_settings(), out, seeds, str(groups))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, splits: Splits) -> ReproductionStudy:
    return make_study(tmp_path_factory.mktemp("study") / "out", splits, (0, 1))


@pytest.fixture(scope="module")
def result(study: ReproductionStudy, splits: Splits) -> Reproduction:
    return reproduce(study, splits, SILENT, HERE)


def test_every_number_of_clusters_of_a_seed_has_the_same_base(study: ReproductionStudy, result: Reproduction) -> None:
    for seed in study.seeds:
        bases = {Run.open_complete(study.run_of(seed, s)).read("base.safetensors") for s in NUMBERS_OF_CLUSTERS}
        assert len(bases) == 1
    assert [column.n_clusters for column in result.columns] == [3, 8, 9]


def test_the_table_has_all_controls_and_a_deep_ensemble_of_the_seeds(result: Reproduction) -> None:
    names = {row.name for row in result.table}
    assert {"base", "specialists", "all-class copy", "base, trained on", "weight average", "random clusters"} <= names
    assert {"confusion clusters", "superclasses", "deep ensemble of 2"} <= names
    assert all(row.n_seeds == 2 for row in result.table)


def test_a_finished_study_trains_nothing_and_gives_the_same(
    study: ReproductionStudy, splits: Splits, result: Reproduction
) -> None:
    class Silent(Progress):
        def stage(self, title: str, steps: int) -> None:
            raise AssertionError(f"{title} is done again")

    assert reproduce(study, splits, Silent(), HERE) == result
    assert gather(study, splits, result.notes[:0]).columns == result.columns


def test_the_page_has_the_papers_figures_and_every_cluster(study: ReproductionStudy, result: Reproduction) -> None:
    page = (study.out / module.PAGE).read_text()
    assert "62.77" in page  # the paper's first specialist
    assert page.count("<tr><td>seed 0,") == page.count("<tr><td>seed 1,") == 3 + 8 + 9
    assert page.count("<tr><td>paper,") == 20


def test_a_seed_that_fails_is_named_and_loses_none_of_the_others(
    tmp_path: Path, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(settings, *args, **kwargs):
        if settings.seed == 0:
            raise TrainingError("the loss became nan at step 3")
        return fit(settings, *args, **kwargs)

    fit = runs.fit
    monkeypatch.setattr(runs, "fit", failing)
    study = make_study(tmp_path / "out", splits, (0, 1))
    found = reproduce(study, splits, SILENT, HERE)
    assert found.seeds == (1,)
    assert any(note.startswith("seed 0 failed and is left out: the loss became nan") for note in found.notes)
    with pytest.raises(TrainingError, match="seed 0 failed"):
        reproduce(make_study(tmp_path / "other", splits, (0,)), splits, SILENT, HERE)


def test_tables_of_an_empty_study_are_refused(tmp_path: Path, splits: Splits) -> None:
    with pytest.raises(ArtifactError, match="no seed"):
        gather(make_study(tmp_path / "out", splits, (0,)), splits)


def test_recipes_are_the_papers_protocol() -> None:
    paper = recipe("paper")
    assert (paper.backbone, paper.base.epochs, paper.specialist.epochs) == ("wrn-28-10", 200, 15)
    for name in module.RECIPES:
        assert (recipe(name).gate.combiner, recipe(name).gate.score) == ("hard", "entropy")
        assert recipe(name).data.split_seed is not None
    with pytest.raises(SettingsError, match="allowed: cpu, paper"):
        recipe("gpu")
    longer = recipe("cpu", base_epochs=96)
    assert (longer.base.epochs, longer.specialist) == (96, recipe("cpu").specialist)


def test_what_is_said_of_every_seed_is_said_once() -> None:
    notes = {0: ["shared", "short"], 1: ["shared"], 3: ["shared", "short"]}
    assert module._notes_of_seeds(notes) == ["shared", "seed 0, 3: short"]


def test_the_papers_figures_have_a_row_for_each_cluster() -> None:
    figures = paper_figures()
    assert {s: len(rows) for s, rows in figures.clusters.items()} == {9: 9, 8: 8, 3: 3}
    assert figures.ensemble - figures.base == pytest.approx(0.0103)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["reproduce", "--out", str(tmp_path / "x"), "--seeds", "0"]) == 1
    assert "at least 1 seed" in capsys.readouterr().err
    assert main(["reproduce", "--out", str(tmp_path / "x"), "--source", "nonsense"]) == 1
    assert "nonsense" in capsys.readouterr().err
    assert main(["reproduce", "--out", str(tmp_path / "x"), "--base-epochs", "0"]) == 1
    assert "base: epochs = 0" in capsys.readouterr().err


def test_seeds_tables_need_a_row_in_every_seed(result: Reproduction) -> None:
    assert compare_seeds([]) == ()
