"""What a long run says of itself while it runs. The command line draws it; the library is silent by default."""

from __future__ import annotations


class Progress:
    """Silent. A display overrides what it wants to show."""

    def stage(self, title: str, steps: int) -> None:
        """A stage of so many steps begins; the one before it has ended."""

    def advance(self, steps: int, n_images: int = 0, loss: float | None = None, accuracy: float | None = None) -> None:
        """So many steps are done, over so many images; their mean training loss and accuracy where there are any."""

    def lane(self) -> Progress:
        """A display beside this one, for stages that run at the same time as others."""
        return self

    def note(self, text: str) -> None:
        """A line worth keeping."""
