"""The paper's experiment: one base per seed, its specialists for three numbers of clusters, and all controls.

A study is a folder of ordinary runs, OUT/seed-N/S-clusters; the one with most clusters trains the base and holds the
controls, the others take the base from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import yaml

from coterie.config import FitSettings
from coterie.controls import add_flipped, train_controls
from coterie.data.splits import Splits
from coterie.errors import SettingsError
from coterie.pipeline import fit
from coterie.progress import Progress
from coterie.run_folder import Run

RECIPES = ("cpu", "paper")
# The paper's, the one that holds the controls first.
NUMBERS_OF_CLUSTERS = (9, 8, 3)


def recipe(name: str) -> FitSettings:
    """The settings of a recipe.

    Raises:
        SettingsError: there is no such recipe.
    """
    if name not in RECIPES:
        raise SettingsError(f"recipe {name!r}: unknown; allowed: {', '.join(RECIPES)}")
    text = resources.files("coterie").joinpath(f"recipes/{name}.yaml").read_text(encoding="utf-8")
    return FitSettings.from_values(yaml.safe_load(text))


def run_of(out: Path, seed: int, n_clusters: int) -> Path:
    """Where a run of the study is."""
    return out / f"seed-{seed}" / f"{n_clusters}-clusters"


@dataclass(frozen=True)
class Part:
    """A piece of the study that resumes by itself: its title, and what does it."""

    title: str
    do: Callable[[], object]


def parts_of_seed(
    settings: FitSettings, out: Path, seed: int, splits: Splits, superclasses: str | None, progress: Progress
) -> Iterator[Part]:
    """All that one seed asks for, in the order in which it can be done. The number of clusters in ``settings`` does
    not matter.
    """
    settings = settings.model_copy(update={"seed": seed})

    def partition_run(n_clusters: int) -> None:
        chosen = settings.model_copy(
            update={"partition": settings.partition.model_copy(update={"clusters": (n_clusters,)})}
        )
        place = run_of(out, seed, n_clusters)
        base_run = None if n_clusters == NUMBERS_OF_CLUSTERS[0] else run_of(out, seed, NUMBERS_OF_CLUSTERS[0])
        fit(chosen, place, splits=splits, base_run=base_run, progress=progress)
        add_flipped(Run.open_complete(place), splits)

    first, *others = NUMBERS_OF_CLUSTERS
    yield Part(f"seed {seed}, {first} clusters", partial(partition_run, first))
    controls = train_controls(Run.open_complete(run_of(out, seed, first)), splits, superclasses, 0, progress)
    control, train = next(iter(controls))
    yield Part(f"seed {seed}, control {control.name}", train)
    for n_clusters in others:
        yield Part(f"seed {seed}, {n_clusters} clusters", partial(partition_run, n_clusters))
    for control, train in controls:
        yield Part(f"seed {seed}, control {control.name}", train)
