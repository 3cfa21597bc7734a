"""Latency of an ensemble beside that of the passes that it makes.

Question: what do routing, combining and calibration cost beside the passes of the networks? Asked: at most 0.3 ms, at
batches of 1, 32 and 1,024. Base, bare passes (the base, then the specialists on the rows that ask them, known
beforehand), and ensembles that route nothing and everything take turns on the same inputs. Heads are untrained: what
they answer does not change what they cost. All is processor time of the one thread that computes, in which other
processes of the machine count little.
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
from coterie.backbones import find_head
from coterie.backbones.base import make_base
from coterie.backbones.cut import trunk_features
from coterie.backbones.libraries import read_tokens
from coterie.backbones.packages import MINILM
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import FitSettings, HardwareSettings
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, Preprocessing, Scale
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.calibration import Temperatures
from coterie.routing.combine import Combiner
from coterie.routing.gate import Gate
from coterie.routing.rule import Rule

N_CLASSES, N_CLUSTERS = 100, 9
# Rounds of each batch size: as many as a minute allows; of a large network, a tenth, and two at least.
ROUNDS = {1: 300, 32: 100, 1024: 10}
# Features, images, and texts of as many tokens, whose network has no end that would be a tail: specialists are whole.
NETWORKS: dict[str, str | None] = {"mlp-256": "hidden", "convnet-32": "stage2", MINILM: None}
N_TOKENS, WORDS, FIRST, LAST = 16, (1000, 30000), 101, 102


def form_of(backbone: str) -> Preprocessing:
    """What makes a network's inputs."""
    if backbone == MINILM:
        form = read_tokens(MINILM.removeprefix("transformers:"), N_TOKENS)
        assert form is not None
        return form
    if backbone.startswith("mlp"):
        return FeaturePreprocessing(Scale((0.0,) * 64, (1.0,) * 64))
    return ImagePreprocessing(32, 32, 3, (100.0,) * 3, (50.0,) * 3)


def inputs_of(backbone: str, form: Preprocessing, batch: int) -> Tensor:
    """Made-up inputs."""
    if backbone == MINILM:
        tokens = torch.randint(*WORDS, (batch, N_TOKENS))
        tokens[:, 0], tokens[:, -1] = FIRST, LAST
        return tokens
    inputs = torch.randn(batch, *form.example().shape[1:])
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.ndim == 4 else inputs


def ensembles(backbone: str) -> tuple[SpecialistEnsemble, SpecialistEnsemble]:
    """One ensemble that routes nothing, and one that routes everything; of tails on a shared trunk, if it has one."""
    cut, form = NETWORKS[backbone], form_of(backbone)
    partition = Partition.from_assignment(np.arange(N_CLASSES) % N_CLUSTERS)
    names = LabelSpace(tuple(f"class {k}" for k in range(N_CLASSES)))
    init = {"init": "pretrained"} if backbone == MINILM else {}
    base = make_base(FitSettings.from_values({"backbone": backbone, **init}), names, form).network.eval()
    head = find_head(base, N_CLASSES, form.example())
    tails = [
        as_asked(make_specialist(base, head, partition.classes(k)), cut, form.example()) for k in range(N_CLUSTERS)
    ]
    combiner, temperatures = Combiner.named("blend", (0.5,), temperature=1.1), Temperatures(1.2, (0.9,))
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
    base = ensemble.base
    asked_B = ensemble.rule.ask(base(inputs).numpy(), ensemble.partition).answer.cluster_N
    features = inputs if ensemble.cut is None else trunk_features(base, ensemble.cut, inputs)
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
    """Time all networks at three batch sizes."""
    torch.set_num_threads(1)
    rows = []
    for backbone in NETWORKS:
        nothing, everything = ensembles(backbone)
        for batch, rounds in ROUNDS.items():
            inputs = inputs_of(backbone, nothing.preprocessing, batch)
            bare = bare_passes(everything, inputs)
            functions: list[Callable[[], object]] = [
                partial(nothing.base, inputs),
                bare,
                partial(nothing, inputs),
                partial(everything, inputs),
            ]
            times = milliseconds(functions, max(2, rounds // 10) if backbone == MINILM else rounds)
            base, passes, none, routed = times
            cells = [f"{min(each):.2f} / {statistics.median(each):.2f}" for each in times]
            cells += [
                f"{min(with_rule) - min(bare_):.2f} / {statistics.median(with_rule) - statistics.median(bare_):.2f}"
                for bare_, with_rule in ((base, none), (passes, routed))
            ]
            rows.append(f"| {backbone.rpartition('/')[2]} | {batch:,} | {' | '.join(cells)} |")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    write_result(
        __file__,
        f"Milliseconds of processor time, least / median; {N_CLASSES} classes, {N_CLUSTERS} specialists. Load averages "
        f"of the machine at the end: {load}.\n\n"
        "| network | batch | base | base and specialists, bare | ensemble, nothing routed | all routed | over the base "
        "| over the bare passes |\n|---|---|---|---|---|---|---|---|\n" + "\n".join(rows),
    )


if __name__ == "__main__":
    command(main)
