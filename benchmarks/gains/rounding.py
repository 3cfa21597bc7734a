"""Specialists' weights in few bits: what they weigh, and what the ensemble still gains.

Question: of a finished run whose specialists are tails with exact weights, how much of the gain stays when each
difference from the base's weights is kept in so many bits on average, and what do base and specialists then weigh? By
moments: as `coterie fit` rounds below 3 bits, where what rounding a column changes is made up for in others; evenly:
the same, with as many bits for each matrix; plainly: each weight to the nearest. The rule is chosen anew each time, on
validation, within 1.5 passes, with one cluster of each partition asked. How far answers are from those of the exact
specialists is told by the mean divergence (Kullback and Leibler 1951), and by the share of samples for which a
specialist names another class, both on test. What rounding takes is processor time of one thread, of all tails.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from benchmarks.shared import command, markdown_table, shown, splits_of, write_result
from coterie.arrays import FloatArray
from coterie.backbones.adapters import weights_of
from coterie.backbones.cut import run_trunk
from coterie.backbones.deltas import decode, encode
from coterie.backbones.specialist import as_asked, make_specialist
from coterie.config import EXACT_BITS
from coterie.data.batches import plain_batches
from coterie.data.splits import Splits
from coterie.partition import Partition
from coterie.pipeline.specialists import moments_of
from coterie.routing.combine import BaseAnswer
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import FinishedRun, Run
from coterie.run.load import load_ensemble
from coterie.run.names import BASE_FILE, specialist_files
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.training.process import configure_process

PLAINLY, EVENLY, BY_MOMENTS = "plainly", "evenly", "by moments"
TRIED = (
    (EXACT_BITS, ""),
    (3, PLAINLY),
    (2.4, PLAINLY),
    (1.5, PLAINLY),
    (1.8, EVENLY),
    (1.4, EVENLY),
    (3, BY_MOMENTS),
    (2.4, BY_MOMENTS),
    (2, BY_MOMENTS),
    (1.8, BY_MOMENTS),
    (1.6, BY_MOMENTS),
    (1.4, BY_MOMENTS),
)
PASSES = 1.5
BATCH = 250


@dataclass(frozen=True, eq=False)
class Asked:
    """Samples of a split, by the likeliest cluster of each partition: the trunk's outputs, and what is known."""

    known: Outputs
    features_N: Tensor
    asked_NS: np.ndarray

    def answers(self, tails: Mapping[int, nn.Module], partition: Partition) -> Outputs:
        """What the tails of some weights say, each of the samples that may ask it."""
        packed_NM = np.zeros_like(self.known.packed_NM)
        with torch.inference_mode():
            for cluster, tail in tails.items():
                row_R = np.flatnonzero(self.asked_NS[:, cluster])
                parts = [tail(batch) for batch in self.features_N[torch.from_numpy(row_R)].split(BATCH)]
                packed_NM[row_R, partition.columns(cluster)] = torch.cat(parts).numpy()
        return replace(self.known, packed_NM=packed_NM)


def main(run: Path) -> None:
    """All ways to round, on one run.

    Args:
        run: finished, its specialists tails that are kept as they are.
    """
    found = Run.open_complete(run)
    splits, partition = splits_of(found), partition_of(found.manifest)
    rows, exact = [], None
    for bits, how, tails, storage, seconds in rounded(found, splits, partition):
        if exact is None:
            asked = {name: _asked(found, splits, name, partition) for name in ("validation", "test")}
        outputs = {name: one.answers(tails, partition) for name, one in asked.items()}
        exact = exact or outputs["test"]
        request = TuningRequest(tops=(1,), budget=Budget(passes=PASSES))
        report = evaluate(outputs["test"], partition, tune(outputs["validation"], partition, request).rule)
        divergence, other = _apart(exact, outputs["test"], asked["test"].asked_NS, partition)
        gain = shown(100 * report.gain, 100 * report.gain_low, 100 * report.gain_high)
        cells = ["as they are" if bits == EXACT_BITS else f"{bits:g}, {how}", f"{storage:.2f}", gain]
        rows.append([*cells, f"{report.mean_passes:.2f}", f"{divergence:.4f}", f"{other:.1%}", f"{seconds:.1f}"])
        print(rows[-1], flush=True)
    titles = ("bits", "storage, of the base's", "gain, points", "passes", "divergence", "other class", "rounding, s")
    tails_said = f"{found.settings.specialist.trainable} of {' and '.join(map(str, found.settings.partition.clusters))}"
    about = f"{found.settings.backbone}, {tails_said} clusters; the base is right for {100 * report.base_top1:.2f} %."
    write_result(__file__, f"{__doc__}\n{about}\n\n{markdown_table(titles, rows)}")


def rounded(
    run: FinishedRun, splits: Splits, partition: Partition
) -> Iterator[tuple[float, str, dict[int, nn.Module], float, float]]:
    """Of each way: bits, how, the tails as they are decoded, the storage of all in that of the base, and the seconds
    that rounding them takes.
    """
    ensemble = load_ensemble(run.path)
    configure_process(ensemble.hardware)
    assert run.manifest.head is not None
    head, known, files = run.manifest.head, weights_of(ensemble.base), specialist_files(partition)
    weights, moments, gathering = {}, {}, 0.0
    for cluster in map(int, ensemble.specialists):
        network = make_specialist(ensemble.base, head, partition.classes(cluster))
        run.read_weights(files[cluster], network, ensemble.base)
        weights[cluster] = {name: tensor.clone() for name, tensor in weights_of(network).items()}
        started = time.thread_time()
        changed = [name for name, tensor in weights[cluster].items() if not tensor.equal(known[name])]
        moments[cluster] = moments_of(network, changed, splits, partition.classes(cluster), torch.device("cpu"))
        gathering += time.thread_time() - started
    for bits, how in TRIED:
        tails, total, seconds = {}, run.manifest.files[BASE_FILE].bytes, gathering if how == BY_MOMENTS else 0.0
        for cluster, exact in weights.items():
            # One by one, matrices have no bits to share out.
            parts = [{name: tensor} for name, tensor in exact.items()] if how == EVENLY else [exact]
            inputs = {} if how == PLAINLY else moments[cluster]
            started = time.thread_time()
            kept = dict(chain.from_iterable(encode(part, known, bits, inputs).items() for part in parts))
            seconds += time.thread_time() - started
            total += len(safetensors.torch.save({name: tensor.contiguous() for name, tensor in kept.items()}))
            network = make_specialist(ensemble.base, head, partition.classes(cluster))
            network.load_state_dict({**exact, **decode(kept, known)})
            tails[cluster] = as_asked(network, ensemble.cut, splits.preprocessing.example()).eval()
        yield bits, how, tails, total / run.manifest.files[BASE_FILE].bytes, seconds


def _asked(run: FinishedRun, splits: Splits, name: str, partition: Partition) -> Asked:
    ensemble, known = load_ensemble(run.path), read_outputs(run, name)
    assert ensemble.cut is not None
    samples = getattr(splits, name).samples
    with torch.inference_mode():
        batches = plain_batches(samples, splits.preprocessing, BATCH, torch.device("cpu"))
        features_N = torch.cat([run_trunk(ensemble.base, ensemble.cut, batch).clone() for batch in batches])
    return Asked(known, features_N, BaseAnswer(known.base_NC, partition).most_likely(1))


def _apart(exact: Outputs, other: Outputs, asked_NS: np.ndarray, partition: Partition) -> tuple[float, float]:
    """Mean divergence of a specialist's answers from the exact one's, and the share that name another class."""
    divergences, changes = [], []
    for cluster in np.flatnonzero(partition.size_S > 1).tolist():
        row_R = np.flatnonzero(asked_NS[:, cluster])
        first_RK, second_RK = (_log_proba(one, row_R, partition, cluster) for one in (exact, other))
        divergences.append((np.exp(first_RK) * (first_RK - second_RK)).sum(axis=1))
        changes.append(first_RK.argmax(axis=1) != second_RK.argmax(axis=1))
    return float(np.concatenate(divergences).mean()), float(np.concatenate(changes).mean())


def _log_proba(outputs: Outputs, row_R: np.ndarray, partition: Partition, cluster: int) -> FloatArray:
    logits_RK = outputs.packed_NM[row_R, partition.columns(cluster)]
    return np.asarray(log_softmax(logits_RK.astype(np.float64), axis=1))


if __name__ == "__main__":
    command(main)
