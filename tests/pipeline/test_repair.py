"""Finished runs that have lost files, and get back what can be made again."""

import json
from pathlib import Path

import pytest

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import ArtifactError
from coterie.pipeline.repair import repair
from coterie.run.folder import Run
from helpers import weights


def test_a_whole_run_is_left_as_it_is(finished_run: Path) -> None:
    before = (finished_run / "manifest.json").read_bytes()
    assert repair(finished_run) == ()
    assert (finished_run / "manifest.json").read_bytes() == before


def test_figures_and_report_are_made_again_from_the_logits(finished_run: Path) -> None:
    metrics, before = (finished_run / "metrics.json").read_bytes(), Run.open(finished_run).manifest
    (finished_run / "metrics.json").write_text("{}")
    (finished_run / "report.html").unlink()
    said = repair(finished_run)
    assert [line.partition(":")[0] for line in said] == ["metrics.json", "report.html"]
    assert (finished_run / "metrics.json").read_bytes() == metrics
    run = Run.open_complete(finished_run)
    assert run.has("report.html")
    assert run.manifest.gate == before.gate
    assert repair(finished_run) == ()


def test_lost_curves_are_said_to_be_lost(finished_run: Path) -> None:
    (finished_run / "history.json").unlink()
    assert repair(finished_run)[0] == "history.json: missing. The training curves are lost"
    assert Run.open_complete(finished_run).read_json("history.json") == {}


def test_what_compare_made_is_forgotten(finished_run: Path) -> None:
    run = Run.open_complete(finished_run)
    for name in ("comparison.json", "logits/test-flipped.safetensors"):
        run.write(name, b"made by compare")
        (finished_run / name).write_bytes(b"")
    said = repair(finished_run)
    assert sum("`coterie compare" in line for line in said) == 2
    assert not {"comparison.json", "logits/test-flipped.safetensors"} & set(
        Run.open_complete(finished_run).manifest.files
    )
    assert not (finished_run / "comparison.json").exists()


@pytest.mark.parametrize("name", ["base.safetensors", "specialists/3/1.safetensors", "logits/test.safetensors"])
def test_what_was_trained_is_trained_again_by_the_command_that_made_it(
    finished_run: Path, name: str, settings: FitSettings, splits: Splits
) -> None:
    before = weights(finished_run)
    (finished_run / name).unlink()
    with pytest.raises(ArtifactError, match=rf"is damaged: {name}: missing; `coterie repair .*` mends what can be"):
        coterie.fit(settings, finished_run, splits=splits)
    (line,) = repair(finished_run)
    assert line.startswith(f"{name}: missing. The run is unfinished now: the command that made it goes on")
    coterie.fit(settings, finished_run, splits=splits)
    assert weights(finished_run) == before


def test_a_manifest_that_lacks_a_file_is_damage_too(finished_run: Path) -> None:
    file = finished_run / "manifest.json"
    values = json.loads(file.read_text())
    del values["files"]["metrics.json"]
    file.write_text(json.dumps(values))
    assert repair(finished_run)[0].startswith("metrics.json: not in the manifest. Computed again")
    Run.open_complete(finished_run).read("metrics.json")


def test_an_unfinished_run_needs_no_repair(finished_run: Path) -> None:
    Run.open(finished_run).update(complete=False)
    with pytest.raises(ArtifactError, match="holds an unfinished run; the same `coterie fit` command goes on"):
        repair(finished_run)
