"""What a long run reports while it runs. The command line draws it; the library is silent by default."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Progress callback of a long run. A subclass overrides what it shows; the rest is silent."""

    # Type checkers take a method without any statement for abstract, hence each `return`.

    def stage(self, title: str, steps: int) -> None:
        """A stage of so many steps begins, 0 where nobody knows how many; the one before it has ended."""
        return

    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        """So many steps are done, over so many images; their mean training loss and accuracy where there are any."""
        return

    def lane(self) -> Progress:
        """A display beside this one, for stages that run at the same time as others."""
        return self

    def note(self, text: str) -> None:
        """A line worth keeping."""
        return


class _Silent(Progress): ...


SILENT: Progress = _Silent()
