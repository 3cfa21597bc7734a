"""Runs that earlier versions wrote load, predict, tune and report as they did."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coterie
from coterie.cli import main
from coterie.config import FitSettings
from coterie.data import load as load_data
from coterie.data.splits import Splits
from coterie.pages.format import points
from coterie.routing.forecast import SKILLS, Skill
from coterie.routing.tune import PAPERS, STANDING
from coterie.run.folder import Run
from coterie.run.reporting import read_reports
from helpers import FIXTURES

RUNS = sorted(path.name for path in (FIXTURES / "runs").iterdir())
TUNINGS = {
    "default": [],
    "budget": ["--passes", "1.3"],
    "blend": ["--combiner", "blend", "--score", "margin", "--top", "1", "--threshold", "0.2"],
}


@pytest.fixture(params=RUNS)
def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a kept run, which names its data by paths relative to the working directory."""
    monkeypatch.chdir(FIXTURES)
    return shutil.copytree(FIXTURES / "runs" / request.param, tmp_path / request.param)


@pytest.fixture
def expected(old: Path) -> dict[str, Any]:
    return json.loads((FIXTURES / "expected" / f"{old.name}.json").read_text())


def settings_of(run: Path) -> FitSettings:
    return FitSettings.from_values(json.loads((run / "manifest.json").read_text())["settings"])


def splits_of(run: Path, ensemble: coterie.SpecialistEnsemble) -> Splits:
    settings = settings_of(run)
    return load_data(settings.data, settings.seed, ensemble.preprocessing)


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Each number, word or null of JSON values, with where it is."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from leaves(item, f"{path}[{place}]")
    else:
        yield path, value


def assert_holds(found: object, wanted: object) -> None:
    """All that was wanted is there, numbers to five digits; what later versions add does not matter."""
    there, missing = dict(leaves(found)), object()
    for path, value in leaves(wanted):
        got = there.get(path, missing)
        number = isinstance(value, float) and isinstance(got, int | float)
        assert (got == pytest.approx(value, rel=1e-5, abs=1e-5)) if number else (got == value), (path, got, value)


def figures_in(sentence: str) -> list[str]:
    """The numbers of a sentence, with their signs."""
    return re.findall(r"[+-]?\d+(?:\.\d+)?", sentence.replace("\N{MINUS SIGN}", "-"))


def test_the_kept_runs_are_small_and_of_both_formats() -> None:
    files = [file for file in FIXTURES.rglob("*") if file.is_file()]
    assert max(file.stat().st_size for file in files) < 100_000
    assert sum(file.stat().st_size for file in files) < 1_000_000
    manifests = {name: json.loads((FIXTURES / "runs" / name / "manifest.json").read_text()) for name in RUNS}
    assert {name: values["format"] for name, values in manifests.items()} == {
        "blend-of-texts": 2,
        "format-1": 1,
        "tails-of-two-partitions": 2,
        "whole-on-features": 2,
    }
    assert manifests["tails-of-two-partitions"]["trunk"]["cut"] == "stage2"
    assert len(set(manifests["tails-of-two-partitions"]["partition"]["layers"])) == 2
    assert manifests["blend-of-texts"]["gate"]["gain"] is not None


def test_an_old_run_predicts_the_same(old: Path, expected: dict[str, Any]) -> None:
    ensemble = coterie.load(old)
    test = splits_of(old, ensemble).test
    proba_NC = ensemble.predict_proba(test.samples)
    np.testing.assert_allclose(proba_NC[:16], expected["proba_NC"], atol=1e-5)
    np.testing.assert_array_equal(ensemble.predict(test.samples), expected["predicted_N"])


def test_an_old_run_is_evaluated_the_same(old: Path, expected: dict[str, Any], capsys) -> None:
    for source in ([], ["--source", settings_of(old).data.source]):
        assert main(["evaluate", str(old), *source, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        # The curve's thresholds are logits, which a pass of its own gives to fewer digits.
        assert_holds(found, {k: v for k, v in expected["evaluate"].items() if k != "curve" or not source})


@pytest.mark.parametrize("tuning", TUNINGS)
def test_an_old_run_is_tuned_to_the_same_rule(
    old: Path, expected: dict[str, Any], tuning: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What stood then where validation cannot tell.
    monkeypatch.setattr("coterie.routing.tune.STANDING", {PAPERS: STANDING[PAPERS]})
    assert main(["tune", str(old), *TUNINGS[tuning]]) == 0
    gate = json.loads((old / "manifest.json").read_text())["gate"]
    test = json.loads((old / "metrics.json").read_text())["test"]
    assert len(gate["tried"]) == expected["tune"][tuning]["tried"]
    if tuning == "budget" and gate["note"].startswith("No sample is routed"):
        # The old code routed by a gain that may be chance.
        assert (gate["threshold"], test["ensemble_top1"]) == (None, test["base_top1"])
    else:
        assert_holds(gate, expected["tune"][tuning]["gate"])
        assert_holds(test, expected["tune"][tuning]["test"])
    # The rule that was chosen is the rule that predicts.
    ensemble = coterie.load(old)
    test_split = splits_of(old, ensemble).test
    right = ensemble.predict(test_split.samples) == test_split.labels_N.numpy()
    assert right.mean() == pytest.approx(test["ensemble_top1"])


def test_an_old_run_is_reported_and_described(old: Path, expected: dict[str, Any], capsys) -> None:
    assert main(["report", str(old)]) == 0
    page = (old / "report.html").read_text()
    assert "<svg" in page
    gained = f"{100 * expected['evaluate']['ensemble_top1']:.2f}"
    assert gained in page
    capsys.readouterr()
    assert main(["info", str(old)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "finished" in told
    assert "torch 2.14.1" in told  # the version that wrote it, not the one that reads it
    sizes = ", ".join(str(len(members)) for members in Run.open(old).manifest.partition.members)
    assert f"{sizes} classes" in told


def test_the_headroom_of_an_old_run_is_the_same(
    old: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What was known of skill then. Since more is known, forecasts without a pilot have other figures.
    for rule, mean in (("hard", 0.075), ("compose", 0.075), ("blend", 0.095)):
        monkeypatch.setitem(SKILLS, rule, Skill(mean, 0.03, measured=True))
    # And forecasts counted gains that validation would not show.
    monkeypatch.setattr("coterie.routing.forecast.ERRORS_TO_ROUTE", -1e9)
    out = tmp_path / "headroom"
    assert main(["headroom", str(old), "--out", str(out), "--clusters", "3", "--methods", "average"]) == 0
    found, wanted = json.loads((out / "headroom.json").read_text()), expected["headroom"]
    # Later versions may say it in other words, but not with other figures.
    reasons, wanted_reasons = (values["advice"].pop("reasons") for values in (found, wanted))
    gained = points(read_reports(Run.open(old))["test"].gain)
    # What later versions say first.
    assert reasons.pop(0).startswith(f"The run's own specialists have gained {gained} points")
    assert [figures_in(reason) for reason in reasons] == [figures_in(reason) for reason in wanted_reasons]
    assert_holds(found, wanted)


def test_an_old_run_is_the_base_of_a_new_one(old: Path, tmp_path: Path) -> None:
    new, two = tmp_path / "new", ["--partition.clusters", "2", "--specialist.epochs", "1"]
    assert main(["fit", "--base", str(old), "--out", str(new), *two]) == 0
    assert (new / "base.safetensors").read_bytes() == (old / "base.safetensors").read_bytes()
    assert len({tuple(members) for members in Run.open_complete(new).manifest.partition.members}) == 2


def test_a_finished_old_run_is_not_done_again(old: Path, capsys) -> None:
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    settings = old.parent / "settings.yaml"
    settings.write_text(settings_of(old).to_yaml())
    assert main(["fit", "--config", str(settings), "--out", str(old)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {file: file.read_bytes() for file in before} == before
