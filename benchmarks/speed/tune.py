"""How long choosing a rule takes, and how much memory.

Question: does `tune` choose among all combiners and gates, cross-fitted, on 10,000 x 100 logits with 9 specialists in
10 seconds, and on 50,000 x 1,000 in 60 seconds and 4 GiB?
"""

import resource
import time

from benchmarks.shared import alone, command, write_result

SIZES = {"10,000 x 100, 9 specialists": (10_000, 100, 9), "50,000 x 1,000, 20 specialists": (50_000, 1_000, 20)}
ASKED = {"10,000 x 100, 9 specialists": "under 10 s", "50,000 x 1,000, 20 specialists": "under 60 s and 4 GiB"}


def measure(n: int, n_classes: int, n_clusters: int) -> dict[str, float]:
    """Seconds, seconds of the processor, and GiB of this process at its largest."""
    import numpy as np

    from coterie.partition import Partition
    from coterie.routing.evaluation import Outputs
    from coterie.routing.tune import TuningRequest, tune

    rng = np.random.default_rng(0)
    partition = Partition.from_assignment(rng.integers(n_clusters, size=n_classes))
    label_N = rng.integers(n_classes, size=n)
    base_NC = rng.standard_normal((n, n_classes), dtype=np.float32) * 2
    base_NC[np.arange(n), label_N] += 6
    packed_NM = base_NC[:, partition.packed_class_M]
    packed_NM += rng.standard_normal(packed_NM.shape, dtype=np.float32)
    outputs = Outputs(base_NC, packed_NM, label_N)
    started, busy = time.perf_counter(), time.process_time()
    tuning = tune(outputs, partition, TuningRequest())
    return {
        "seconds": time.perf_counter() - started,
        "busy": time.process_time() - busy,
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "tried": len(tuning.candidates),
    }


def main() -> None:
    """Each size in a process of its own."""
    lines = [
        "| logits | asked | wall | processor | peak memory, logits included | rules tried |",
        "|---|---|---|---|---|---|",
    ]
    for title, size in SIZES.items():
        figures = alone(measure, *size)
        lines.append(
            f"| {title} | {ASKED[title]} | {figures['seconds']:.1f} s | {figures['busy']:.1f} s | "
            f"{figures['gib']:.2f} GiB | {figures['tried']} |"
        )
    write_result(__file__, "\n".join(lines))


if __name__ == "__main__":
    command(main)
