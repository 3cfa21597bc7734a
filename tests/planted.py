"""Label vectors with known clusters, and a progress that remembers."""

import numpy as np

from coterie.progress import Progress


def planted_vectors(
    n_classes: int, n_clusters: int, noise: float, width: int = 64, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around random centres, each with a class at least, and the true cluster of each."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_clusters), rng.integers(n_clusters, size=n_classes - n_clusters)])
    centre_SD = rng.normal(size=(n_clusters, width))
    return centre_SD[truth] + noise * rng.normal(size=(n_classes, width)), truth


class Listener(Progress):
    """Remembers titles, notes, and of each stage the steps done and announced."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.notes: list[str] = []
        self.steps: list[list[int]] = []

    def stage(self, title: str, steps: int) -> None:
        self.titles.append(title)
        self.steps.append([0, steps])

    def advance(self, steps: int, *_: object) -> None:
        self.steps[-1][0] += steps

    def note(self, text: str) -> None:
        self.notes.append(text)
