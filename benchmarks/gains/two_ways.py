"""The two ways of feeding images give the same accuracy.

Question: does it matter whether images are augmented as batches in memory or one by one in workers? The same network
is trained both ways on CIFAR-100, with several seeds; the accuracy of the base on test images is compared.
"""

import statistics
import sys
import time

import coterie
import record
from coterie.config import FitSettings
from coterie.data import load

SEEDS = (0, 1)


def main(source: str) -> None:
    """Train both ways."""
    rows: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for seed in SEEDS:
        for way, memory_gib in (("in memory", 2.0), ("decoded by 2 workers", 0.0)):
            settings = FitSettings.from_values(
                {
                    "data": {"source": source, "label": "fine_label", "memory_gib": memory_gib, "workers": 2},
                    "backbone": "convnet-16",
                    "base": {"epochs": 8},
                    "specialist": {"epochs": 1},
                    "partition": {"clusters": [1]},
                    "gate": {"score": "entropy", "threshold": 100.0},
                    "seed": seed,
                }
            )
            splits = load(settings.data, seed)
            started = time.perf_counter()
            ensemble = coterie.fit(settings, splits=splits)
            seconds[way] = seconds.get(way, 0.0) + time.perf_counter() - started
            right = ensemble.predict(splits.test.samples) == splits.test.labels_N.numpy()
            rows.setdefault(way, []).append(100 * float(right.mean()))
            print(way, seed, rows[way][-1], flush=True)
    table = "\n".join(
        f"| {way} | {', '.join(f'{accuracy:.2f}' for accuracy in accuracies)} | {statistics.mean(accuracies):.2f} "
        f"| {seconds[way]:.0f} s |"
        for way, accuracies in rows.items()
    )
    differences = [a - b for a, b in zip(*rows.values(), strict=True)]
    record.write(
        __file__,
        f"convnet-16, 8 epochs on {len(splits.train):,} images, seeds {SEEDS}; base, top-1 on {len(splits.test):,} "
        "test images, in %."
        "\n\n"
        f"| way | by seed | mean | time, all |\n|---|---|---|---|\n{table}\n\n"
        f"Mean difference {statistics.mean(differences):+.2f} points, standard deviation over seeds "
        f"{statistics.stdev(differences):.2f}.",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/gains/two_ways.py SOURCE")
    main(sys.argv[1])
