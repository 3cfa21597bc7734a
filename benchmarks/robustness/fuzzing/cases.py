"""A case: a kind and a seed give a target, a mutation of it, and the commands that are run on it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.robustness.fuzzing import arrays, folder, inputs
from benchmarks.robustness.fuzzing.commands import COMMANDS, judged
from benchmarks.robustness.fuzzing.folder import MANIFEST
from benchmarks.robustness.fuzzing.hostile import SENTINEL
from benchmarks.robustness.fuzzing.targets import RUN
from benchmarks.robustness.fuzzing.watched import Guard, Outcome, watch

FINISHED = ("features", "whole", "tails", "ngrams", "tokens", "table")
READING = ("info", "load, predict, explain", "predict", "predict as JSON", "evaluate", "evaluate as JSON")
WRITING = ("report", "tune to a rule", "repair")
DEAR = (
    *("tune", "evaluate on a source", "compare", "refit", "plan from the base", "headroom", "partition"),
    *("serve", "export", "distil"),
)
# What takes longer is run in fewer cases; what writes, after what reads.
WRITING_SHARE, DEAR_SHARE = 0.25, 0.05
LARGEST_MANIFEST = 10**8
GOES_ON = "fit that goes on"


@dataclass(frozen=True)
class Kind:
    """What is mutated, and what is run then.

    Attributes:
        mutate: changes the copy of a target in a folder; says what it did.
        targets: to draw from.
        commands: two of them are run, or the only one; default: two of READING, at times one of WRITING or DEAR.
        weight: cases of this kind in those of a kind of weight 1.
        own: whether what is mutated is the user's own, who may name any file.
    """

    mutate: Callable[[Random, Path], str]
    targets: tuple[str, ...]
    commands: tuple[str, ...] = ()
    weight: float = 1.0
    own: bool = False


KINDS = {
    "manifest": Kind(folder.manifest, FINISHED, weight=4),
    "figures": Kind(folder.figures, FINISHED, weight=2),
    "tensors": Kind(folder.tensors, FINISHED, weight=3),
    "deltas": Kind(folder.deltas, ("tails", "tokens"), weight=2),
    "tokenizer": Kind(folder.tokenizer, ("tokens",), ("load, predict, explain", "predict")),
    "names": Kind(folder.names, FINISHED, weight=1),
    "places": Kind(folder.places, FINISHED, weight=2),
    "controls": Kind(folder.controls, ("compared",), ("compare with groups",), weight=0.4),
    "unfinished": Kind(folder.manifest, ("unfinished",), ("info", GOES_ON), weight=0.5),
    "states": Kind(folder.states, ("unfinished",), ("info", GOES_ON), weight=0.7),
    "links that are swept": Kind(folder.linked, ("unfinished",), (GOES_ON,), weight=0.2),
    "csv": Kind(inputs.rows, ("table", "ngrams"), ("plan", "predict"), weight=1),
    "csv of rows": Kind(inputs.rows, ("table",), ("predict rows", "evaluate on a source"), weight=0.5),
    "csv of texts": Kind(inputs.rows, ("ngrams",), ("predict texts", "evaluate on a source"), weight=0.5),
    "jsonl": Kind(inputs.lines, ("table",), ("predict lines", "plan from lines", "evaluate on lines")),
    "parquet": Kind(inputs.columns, ("whole",), ("plan", "evaluate on a source")),
    "npz": Kind(arrays.features, ("features",), ("predict", "predict features", "plan", "partition vectors")),
    "logits": Kind(
        arrays.logits,
        ("features",),
        ("compare logits", "headroom of logits", "headroom of tensors", "partition logits"),
    ),
    "names of classes": Kind(
        inputs.names,
        ("features",),
        tuple(f"partition with names from {kind}" for kind in ("lines", "JSON", "a column")),
        weight=0.4,
    ),
    "images": Kind(inputs.images, ("whole",), ("predict", "predict as JSON", "evaluate on images"), own=True),
    "weights": Kind(arrays.weights, ("whole",), ("plan with weights", "plan with safetensors")),
    "settings": Kind(inputs.settings, ("features", "table"), ("plan of settings",), weight=0.7),
}


@dataclass(frozen=True)
class Case:
    """A case of a kind; the same seed gives the same case."""

    kind: str
    seed: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.seed}"

    def run(
        self, targets: Path, place: Path, shared: Path, memory: int, seconds: float, *, brief: bool = False
    ) -> tuple[str, list[Outcome]]:
        """Mutate, run, judge; returns what was mutated, and what came of it.

        Args:
            targets: where the good runs are.
            place: an empty folder to be, for this case.
            shared: for caches.
            memory: resident bytes that a command may take.
            seconds: that it may take.
            brief: run one command, none that takes long where another is left.
        """
        rng, kind = Random(str(self)), KINDS[self.kind]
        target = rng.choice([name for name in kind.targets if (targets / name).exists()])
        lay_out(targets / target, place)
        done = kind.mutate(rng, place)
        # Data that the settings of a run name elsewhere is read by the commands that read data, and documented to be.
        named = _settings(place / RUN / MANIFEST) != _settings(targets / target / RUN / MANIFEST)
        chosen = rng.sample(kind.commands, min(2, len(kind.commands))) or _drawn(rng)
        if brief:
            chosen = [name for name in chosen if not COMMANDS[name].dear][-1:] or chosen[:1]
        # Rows of a table may name images anywhere, as its owner's do, also above their folder.
        own = kind.own or "paths" in done
        commands = [(name, own or (named and COMMANDS[name].reads_data)) for name in chosen]
        guard = Guard(place, shared, memory, seconds)
        return f"{target}, {done}", watch(guard, commands, lambda name: judged(name, target))


def lay_out(target: Path, place: Path) -> None:
    """A copy of a target, and beside it what nobody may touch."""
    shutil.copytree(target, place, symlinks=True, copy_function=shutil.copy)
    (place / "tmp").mkdir()
    (place / SENTINEL / "docs").mkdir(parents=True)
    for name in ("victim.txt", "picture.png", "docs/kept.txt", "docs/.kept.txt.tmp", "docs/0.safetensors"):
        (place / SENTINEL / name).write_text("nobody reads, changes or deletes this\n")


def _drawn(rng: Random) -> list[str]:
    some = rng.sample(READING, 2)
    if rng.random() < WRITING_SHARE:
        some.append(rng.choice(WRITING))
    if rng.random() < DEAR_SHARE:
        some.append(rng.choice(DEAR))
    return some


def _settings(manifest: Path) -> object:
    if not manifest.is_file() or manifest.stat().st_size > LARGEST_MANIFEST:  # a pipe, or what else lies there now
        return None
    try:
        return json.loads(manifest.read_bytes())["settings"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def good(
    target: str, targets: Path, place: Path, shared: Path, seconds: float, *, brief: bool = False
) -> list[Outcome]:
    """All commands that cases run on a target, on the target itself; or only those that do not take long."""
    lay_out(targets / target, place)
    kinds = [kind for kind in KINDS.values() if target in kind.targets]
    wanted = {name for kind in kinds for name in kind.commands or (*READING, *WRITING, *DEAR)}
    commands = [(name, False) for name in COMMANDS if name in wanted and not (brief and COMMANDS[name].dear)]
    return watch(Guard(place, shared, 2**63, seconds), commands, lambda name: judged(name, target))
