"""What do trackers cost a small run?

Question: how much longer does `coterie.fit` take with TensorBoard's log, and with MLflow's file store, than without
either? A small run on the embedded data set, of many short epochs, since trackers are told once an epoch; rounds are
interleaved, and of the times the smallest counts, since other work on the machine only adds to them.
"""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.shared import command, plain, write_result
from coterie import fit
from coterie.config import EngineSettings, FitSettings
from coterie.data import load
from coterie.system.files import bytes_below

EPOCHS = 20
CLUSTERS = 4
SETTINGS = {
    "data": {"train_per_class": 8},
    "backbone": "convnet-8",
    "base": {"epochs": EPOCHS, "batch_size": 64},
    "specialist": {"epochs": EPOCHS, "batch_size": 64},
    "partition": {"clusters": [CLUSTERS]},
    "hardware": {"accelerator": "cpu", "threads": 1},
}
WAYS = ("no tracker", "TensorBoard, the default", "MLflow", "both")


def settings_of(way: str, folder: Path) -> FitSettings:
    """A run that is tracked in this way."""
    track = {
        "tensorboard": way in ("TensorBoard, the default", "both"),
        "mlflow": str(folder / "mlruns") if way in ("MLflow", "both") else None,
    }
    return plain({**SETTINGS, "track": track})


def main(rounds: int = 5) -> None:
    """Time them.

    Args:
        rounds: of all ways in turn.
    """
    settings = plain(SETTINGS)
    splits = load(settings.data, settings.seed)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    taken: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as warm:
        # What MLflow's import and its first run in a process take is another question: how long a command starts.
        fit(settings_of("both", Path(warm)), Path(warm) / "run", splits=splits, engine=EngineSettings(workers=1))
    for _ in range(rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                started = time.perf_counter()
                fit(settings_of(way, folder), folder / "run", splits=splits, engine=EngineSettings(workers=1))
                seconds[way].append(time.perf_counter() - started)
                taken[way] = bytes_below(folder)
            print(way, f"{seconds[way][-1]:.2f} s", flush=True)
    least = min(seconds[WAYS[0]])
    rows = "\n".join(
        f"| {way} | {min(seconds[way]):.2f} | {statistics.median(seconds[way]):.2f} "
        f"| {100 * (min(seconds[way]) / least - 1):+.1f} % "
        f"| {1000 * (min(seconds[way]) - least) / (EPOCHS * (1 + CLUSTERS)):+.1f} | {taken[way] / 2**20:.2f} |"
        for way in WAYS
    )
    write_result(
        __file__,
        f"{1 + CLUSTERS} trainings of {EPOCHS} epochs each, in {rounds} interleaved rounds.\n\n"
        "| trackers | wall, s, smallest | median | against none | ms an epoch | run and logs, MiB |\n"
        "|---|---|---|---|---|---|\n"
        f"{rows}",
    )


if __name__ == "__main__":
    command(main)
