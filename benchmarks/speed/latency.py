"""Latency of an ensemble beside that of the passes that it makes.

Question: what do routing, combining and calibration cost beside the passes of the networks? Asked: at most 0.3 ms, at
batches of 1, 32 and 1,024. Base, bare passes (the base, then the tails on the rows that ask them, known beforehand),
and ensembles that route nothing and everything take turns on the same inputs. Networks are untrained: what they answer
does not change what they cost. All is processor time of the one thread that computes, in which other processes of the
machine count little.
"""

import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.shared import command, write_result
from coterie.backbones import build, find_head
from coterie.backbones.cut import trunk_features
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import HardwareSettings
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, Preprocessing, Scale
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule

N_CLASSES, N_CLUSTERS = 100, 9
# Rounds of each batch size: as many as a minute allows.
ROUNDS = {1: 300, 32: 100, 1024: 10}
NETWORKS: dict[str, tuple[str, Preprocessing]] = {
    "mlp-256": ("hidden", FeaturePreprocessing(Scale((0.0,) * 64, (1.0,) * 64))),
    "convnet-32": ("stage2", ImagePreprocessing(32, 32, 3, (100.0,) * 3, (50.0,) * 3)),
}


def ensembles(backbone: str) -> tuple[SpecialistEnsemble, SpecialistEnsemble]:
    """Tails on a shared trunk: one ensemble that routes nothing, and one that routes everything."""
    cut, form = NETWORKS[backbone]
    partition = Partition.from_assignment(np.arange(N_CLASSES) % N_CLUSTERS)
    base = build(backbone, N_CLASSES, form, 0).eval()
    head = find_head(base, N_CLASSES, form.example())
    tails = [
        as_asked(make_specialist(base, head, partition.classes(k)), cut, form.example()) for k in range(N_CLUSTERS)
    ]
    combiner, temperatures = Combiner.named("blend", (0.5,), temperature=1.1), Temperatures(1.2, (0.9,))
    names = LabelSpace(tuple(f"class {k}" for k in range(N_CLASSES)))
    hardware = HardwareSettings(accelerator="cpu", precision="fp32", threads=1)
    nothing, everything = (
        SpecialistEnsemble(
            base, list(tails), partition, names, Rule(Gate(threshold), combiner, temperatures), form, hardware, cut
        )
        for threshold in (np.inf, -np.inf)
    )
    return nothing, everything


@torch.inference_mode()
def bare_passes(ensemble: SpecialistEnsemble, inputs: Tensor) -> Callable[[], object]:
    """The base's pass, then those of the tails that are asked, and nothing else."""
    assert ensemble.cut is not None
    base = ensemble.base
    asked_B = ensemble.rule.ask(base(inputs).numpy(), ensemble.partition).answer.cluster_N
    features = trunk_features(base, ensemble.cut, inputs)
    work = [(ensemble.specialists[str(k)], features[torch.from_numpy(asked_B == k)]) for k in np.unique(asked_B)]

    def passes() -> object:
        return [base(inputs), *(tail(rows) for tail, rows in work)]

    return passes


@torch.inference_mode()
def milliseconds(functions: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Of each function, what each round took, in an order that is drawn anew each time: what ran before has filled the
    processor's caches with what a function needs, or with something else.
    """
    taken: list[list[float]] = [[] for _ in functions]
    rng = np.random.default_rng(0)
    for number in range(rounds + 1):
        for place in rng.permutation(len(functions)):
            started = time.thread_time()
            functions[place]()
            if number:  # the first is to warm up
                taken[place].append(1000 * (time.thread_time() - started))
    return taken


def main() -> None:
    """Time both networks at three batch sizes."""
    torch.set_num_threads(1)
    rows = []
    for backbone in NETWORKS:
        nothing, everything = ensembles(backbone)
        for batch, rounds in ROUNDS.items():
            inputs = torch.randn(batch, *nothing.preprocessing.example().shape[1:])
            if inputs.ndim == 4:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            bare = bare_passes(everything, inputs)
            functions: list[Callable[[], object]] = [
                partial(nothing.base, inputs),
                bare,
                partial(nothing, inputs),
                partial(everything, inputs),
            ]
            times = milliseconds(functions, rounds)
            base, passes, none, routed = times
            cells = [f"{min(each):.2f} / {statistics.median(each):.2f}" for each in times]
            cells += [
                f"{min(with_rule) - min(bare_):.2f} / {statistics.median(with_rule) - statistics.median(bare_):.2f}"
                for bare_, with_rule in ((base, none), (passes, routed))
            ]
            rows.append(f"| {backbone} | {batch:,} | {' | '.join(cells)} |")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    write_result(
        __file__,
        f"Milliseconds of processor time, least / median; {N_CLASSES} classes, {N_CLUSTERS} tails. Load averages of "
        f"the machine at the end: {load}.\n\n"
        "| network | batch | base | base and tails, bare | ensemble, nothing routed | all routed | over the base | "
        "over the bare passes |\n|---|---|---|---|---|---|---|---|\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    command(main)
