import pytest

from coterie.progress import SILENT, Progress


class Titles(Progress):
    """Shows some of it, as a user's display may."""

    def __init__(self) -> None:
        self.titles: list[str] = []

    def stage(self, title: str, steps: int) -> None:
        self.titles.append(title)


@pytest.mark.parametrize("progress", [SILENT, Titles()], ids=["silent", "titles"])
def test_what_is_not_shown_is_silent(progress: Progress, capsys) -> None:
    progress.stage("base", 3)
    progress.advance(1)
    progress.advance(2, 64, loss=0.5, accuracy=0.75)
    progress.note("a line")
    assert progress.lane() is progress
    assert capsys.readouterr() == ("", "")
    assert getattr(progress, "titles", ["base"]) == ["base"]
