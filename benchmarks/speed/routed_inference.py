"""Time per image of the ensemble against the base's.

Question: does routing cost more than the passes that it makes? Asked: at most 1.1 x (1 + routed fraction) times the
base's time per image, at the threshold that the run chose. Base and ensemble take turns over the same test images.
"""

import statistics
import time
from pathlib import Path

from benchmarks.shared import command, splits_of, write_result
from coterie.run.folder import Run
from coterie.run.load import load_ensemble
from coterie.training.passes import compute_logits
from coterie.training.process import configure_process

ROUNDS = 5


def main(run: Path) -> None:
    """Time a finished run on its test split.

    Args:
        run: its folder.
    """
    ensemble = load_ensemble(run)
    configure_process(ensemble.hardware)
    images = splits_of(Run.open_complete(run)).test.samples
    routed = float(ensemble.decide(images).routed_N.mean())
    base_ms, ensemble_ms = [], []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        compute_logits(ensemble.computing, ensemble.base, images, ensemble.preprocessing)
        middle = time.perf_counter()
        ensemble.decide(images)
        base_ms.append(1000 * (middle - started) / len(images))
        ensemble_ms.append(1000 * (time.perf_counter() - middle) / len(images))
    ratio = statistics.median(b / a for a, b in zip(base_ms, ensemble_ms, strict=True))
    write_result(
        __file__,
        f"{len(images):,} images, {routed:.1%} routed, median of {ROUNDS} rounds.\n\n"
        "| | measured |\n|---|---|\n"
        f"| base, ms per image | {statistics.median(base_ms):.4f} |\n"
        f"| ensemble, ms per image | {statistics.median(ensemble_ms):.4f} |\n"
        f"| ensemble / base | {ratio:.3f} |\n"
        f"| asked: at most 1.1 x (1 + {routed:.3f}) | {1.1 * (1 + routed):.3f} |",
    )


if __name__ == "__main__":
    command(main)
