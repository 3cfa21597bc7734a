"""A pilot that declines leaves a run that goes on to the same bits as one that was never asked."""

from pathlib import Path

import pytest

import coterie
from coterie.config import FitSettings
from coterie.data.splits import Splits
from coterie.errors import DeclinedError
from coterie.progress import SILENT
from coterie.run.folder import Run
from coterie.run.names import specialist_files
from coterie.run.values import partition_of
from coterie.studies.headroom.study import HeadroomRequest, read_source, study_headroom
from helpers import Notes, changed, weights


@pytest.mark.usefixtures("piloted")
def test_a_run_that_is_declined_goes_on_to_the_same_bits(
    tmp_path: Path, settings: FitSettings, splits: Splits, finished_run: Path
) -> None:
    with pytest.raises(DeclinedError, match=r"forecast: .* less than the 90 points that --gain asks for"):
        coterie.fit(settings, tmp_path / "asked", splits=splits, gain=90)
    declined = Run.open(tmp_path / "asked")
    record = declined.manifest.pilot
    assert not declined.manifest.complete
    assert record is not None
    assert record.low <= record.gain <= record.high
    partition = partition_of(Run.open_complete(finished_run).manifest)
    trained = {file for file in specialist_files(partition) if declined.has(file)}
    assert trained == {specialist_files(partition)[cluster] for cluster in record.clusters}
    assert 0 < len(trained) < partition.n_clusters
    coterie.fit(settings, tmp_path / "asked", splits=splits)
    assert weights(tmp_path / "asked") == weights(finished_run)


@pytest.mark.usefixtures("piloted")
def test_a_forecast_that_is_high_enough_is_said_and_the_run_goes_on(
    tmp_path: Path, settings: FitSettings, splits: Splits
) -> None:
    progress = Notes()
    coterie.fit(settings, tmp_path / "run", splits=splits, gain=0.0, progress=progress)
    run = Run.open_complete(tmp_path / "run")
    assert any("forecast: " in note and "the others take about" in note for note in progress.notes)
    source = read_source(run.path)
    assert source.skill is not None
    assert source.skill.mean == run.manifest.pilot.skill
    reasons = study_headroom(source, HeadroomRequest(clusters=(3,)), SILENT).headroom.advice.reasons
    assert any("A pilot put right" in reason for reason in reasons)


@pytest.mark.usefixtures("piloted")
def test_a_forecast_keeps_to_the_limits_of_the_gate(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    forecasts = {}
    for name, gate in {"free": {}, "passes": {"passes": 1.02}, "routed": {"routed": 0.02}}.items():
        with pytest.raises(DeclinedError):
            coterie.fit(changed(settings, gate=gate), tmp_path / name, splits=splits, gain=90)
        forecasts[name] = Run.open(tmp_path / name).manifest.pilot
    assert forecasts["passes"] == forecasts["routed"]
    assert forecasts["passes"].skill == forecasts["free"].skill
    assert 0 <= forecasts["passes"].gain < forecasts["free"].gain


@pytest.mark.usefixtures("piloted")
def test_where_validation_is_too_small_to_judge_the_pilot_all_are_trained_and_that_is_said(
    tmp_path: Path, settings: FitSettings, splits: Splits, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coterie.routing.pilot.LEAST_SAMPLES", len(splits.validation) + 1)
    progress = Notes()
    coterie.fit(settings, tmp_path / "asked", splits=splits, gain=90, progress=progress)
    [said] = [note for note in progress.notes if "pilot" in note]
    assert said.startswith(f"validation is too small to judge a pilot by: of its {len(splits.validation)} samples")
    assert Run.open_complete(tmp_path / "asked").manifest.pilot is None
    assert weights(tmp_path / "asked") == weights(finished_run)


def test_what_is_soon_done_is_done_without_a_forecast(tmp_path: Path, settings: FitSettings, splits: Splits) -> None:
    coterie.fit(settings, tmp_path / "run", splits=splits, gain=90)
    assert Run.open_complete(tmp_path / "run").manifest.pilot is None
