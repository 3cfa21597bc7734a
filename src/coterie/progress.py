"""What a long run reports while it runs. The command line draws it; the library is silent by default."""

from __future__ import annotations

from typing import Protocol

from typing_extensions import override


class Progress(Protocol):
    """Progress callback of a long run. A subclass overrides what it shows."""

    def stage(self, title: str, steps: int) -> None:
        """A stage of so many steps begins; the one before it has ended."""

    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        """So many steps are done, over so many images; their mean training loss and accuracy where there are any."""

    def lane(self) -> Progress:
        """A display beside this one, for stages that run at the same time as others."""
        return self

    def note(self, text: str) -> None:
        """A line worth keeping."""


class _Silent(Progress):
    @override
    def stage(self, title: str, steps: int) -> None: ...

    @override
    def advance(
        self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None
    ) -> None: ...

    @override
    def note(self, text: str) -> None: ...


SILENT: Progress = _Silent()
