import io

import pytest
from rich.console import Console

from coterie.cli.terminal import progress as progress_module
from coterie.cli.terminal.progress import BARS, BarProgress, LineProgress, make_progress


def test_progress_is_lines_in_a_pipe_and_bars_on_a_terminal() -> None:
    assert isinstance(make_progress(Console(file=io.StringIO())), LineProgress)
    assert isinstance(make_progress(Console(file=io.StringIO(), force_terminal=True)), BarProgress)


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_loss_accuracy_and_rate(terminal: bool) -> None:
    out = Console(file=io.StringIO(), width=100, force_terminal=terminal, record=True)
    with make_progress(out) as progress:
        progress.stage("base", 20)
        progress.advance(10, 1280, 2.5, 0.125)
        progress.advance(10, 1280, 1.5, 0.5)
        progress.note("done")
    text = out.export_text()
    assert "base" in text
    assert "20/20" in text
    assert "loss 1.500" in text
    assert "accuracy 50.0\N{NO-BREAK SPACE}%" in text
    assert "samples/s" in text
    assert "done" in text


def test_a_lane_shows_one_stage_at_a_time_and_finished_stages_make_room() -> None:
    out = Console(file=io.StringIO(), force_terminal=True)
    with make_progress(out) as progress:
        assert isinstance(progress, BarProgress)
        lane = progress.lane()
        lane.stage("first", 5)
        lane.stage("second", 5)
        assert [task.description.strip() for task in progress.bars.tasks] == ["second"]
        for number in range(2 * BARS):
            progress.stage(f"stage {number}", 1)
            progress.advance(1)
        assert len(progress.bars.tasks) <= BARS


@pytest.mark.parametrize("terminal", [True, False])
def test_a_stage_of_unknown_length(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "SECONDS_PER_LINE", -1)
    out = Console(file=io.StringIO(), width=100, force_terminal=terminal, record=True)
    with make_progress(out) as progress:
        progress.stage("predict", 0)
        progress.advance(7, 7)
    text = out.export_text()
    assert ("7/?" if terminal else "predict              7 ") in text
    assert "samples/s" in text
    assert terminal or "left" not in text


def test_what_was_done_before_a_stage_goes_on_counts_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    out = Console(file=io.StringIO(), width=120, record=True)
    with LineProgress(out) as progress:
        progress.stage("base", 1000)
        progress.advance(800)  # by an earlier process
        for seconds in (40.0, 80.0):
            now[0] = seconds
            progress.advance(10, 640, 1.5, 0.5)
    first, second = out.export_text().splitlines()
    assert first.endswith("40 s, left 13 min")
    assert second.endswith("80 s, left 12 min")
