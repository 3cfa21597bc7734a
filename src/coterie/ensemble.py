"""The trained thing: a base, its specialists, and the rule that says whom to ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn

from coterie.combine import Combiner, combine, packed_softmax, route
from coterie.config import HardwareSettings
from coterie.errors import InputError
from coterie.evaluation import Outputs
from coterie.gate import Gate, entropy
from coterie.inputs import Preprocessing, Samples
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.training import compute_logits, make_fabric

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]

# Rows wait until a specialist has a full batch: samples of one chunk are sorted by cluster before specialists see them.
CHUNK = 8192


@dataclass(frozen=True, eq=False)
class Decision:
    """What was decided for N samples: probabilities, and how they came about.

    ``base_logits_NC``; ``score_N``: the gate's, in nats; ``routed_N``; ``cluster_N``: whose specialist was or would be
    asked; ``packed_logits_NM``: the specialists' logits (see Partition), NaN where nobody was asked.
    """

    proba_NC: FloatArray
    base_logits_NC: FloatArray
    score_N: FloatArray
    routed_N: BoolArray
    cluster_N: IntArray
    packed_logits_NM: FloatArray


@dataclass(frozen=True)
class Explanation:
    """Why a sample got its class: the top classes with their probabilities, of the base and of the specialist.

    ``specialist_top`` is empty where the base was sure and nobody was asked. ``score`` is the base's entropy in nats;
    a ``threshold`` of None routes nothing.
    """

    predicted: str
    probability: float
    routed: bool
    score: float
    threshold: float | None
    cluster: int
    cluster_classes: tuple[str, ...]
    base_top: tuple[tuple[str, float], ...]
    specialist_top: tuple[tuple[str, float], ...]


class SpecialistEnsemble(nn.Module):
    """A base and one specialist per cluster; a module that goes where the base went.

    ``forward`` takes what the base takes and returns what the base returns: (B, C) values whose softmax are the
    ensemble's probabilities; where the base was sure they are its logits, unchanged. The other methods take what its
    ``preprocessing.samples`` takes: images uint8 of shape (N, H, W) or (N, H, W, channels), of the size that the
    networks were trained on; or a data source's ``Samples``, which ``coterie.data.read_new`` makes of files.

    Args:
        base: the base network, trained.
        specialists: one network per cluster, or None for a cluster of one class.
        partition: the clusters.
        labels: names of the classes.
        gate: who is routed.
        combiner: how answers are combined.
        preprocessing: from sample to input.
        hardware: device and precision.
    """

    def __init__(
        self,
        base: nn.Module,
        specialists: list[nn.Module | None],
        partition: Partition,
        labels: LabelSpace,
        gate: Gate,
        combiner: Combiner,
        preprocessing: Preprocessing,
        hardware: HardwareSettings = HardwareSettings(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        if len(specialists) != partition.n_clusters:
            raise InputError(f"{partition.n_clusters} clusters need as many specialists; got {len(specialists)}")
        self.base = base
        self.specialists = nn.ModuleDict(
            {str(cluster): network for cluster, network in enumerate(specialists) if network is not None}
        )
        self.partition = partition
        self.labels = labels
        self.gate = gate
        self.combiner: Combiner = combiner
        self.preprocessing = preprocessing
        self.hardware = hardware
        self.fabric: Fabric = make_fabric(hardware)
        self.to(self.fabric.device).eval()

    @torch.inference_mode()
    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs as the base takes them, such as (B, channels, H, W), to values (B, C)."""
        inputs = inputs.to(self.fabric.device)
        with self.fabric.autocast():
            base_logits = self.base(inputs).float()

        def ask(cluster: int, rows: IntArray) -> FloatArray:
            with self.fabric.autocast():
                answer: FloatArray = self.specialists[str(cluster)](inputs[rows]).float().cpu().numpy()
            return answer

        decision = self._decide(base_logits.cpu().numpy(), ask)
        values = np.where(decision.routed_N[:, None], _log(decision.proba_NC), decision.base_logits_NC)
        return torch.from_numpy(values).to(inputs.device)

    def decide(self, raw: Any) -> Decision:
        """Probabilities and all that led to them.

        Raises:
            InputError: the samples have another form than the networks take.
        """
        samples = self.preprocessing.check(raw)
        chunks = [self._decide_chunk(samples.take(rows)) for rows in torch.arange(len(samples)).split(CHUNK)]
        return Decision(*(np.concatenate(parts) for parts in zip(*(vars(c).values() for c in chunks), strict=True)))

    def predict_proba(self, raw: Any) -> FloatArray:
        """Probabilities, float32 of shape (N, C); rows sum to 1."""
        return self.decide(raw).proba_NC

    def predict(self, raw: Any) -> IntArray:
        """Class indices of shape (N,): the argmax of ``predict_proba``."""
        return self.predict_proba(raw).argmax(axis=1)

    def explain(self, raw: Any, top: int = 5) -> list[Explanation]:
        """One explanation per sample."""
        decision = self.decide(raw)
        return [self._explain(decision, row, top) for row in range(len(decision.proba_NC))]

    def outputs(self, samples: Samples, label_N: IntArray) -> Outputs:
        """What base and *all* specialists say of labelled samples, asked or not: S + 1 passes."""
        samples = self.preprocessing.check(samples)
        packed_NM = np.zeros((len(samples), int(self.partition.size_S.sum())), dtype=np.float32)
        for name, network in self.specialists.items():
            columns = self.partition.columns(int(name))
            packed_NM[:, columns] = compute_logits(self.fabric, network, samples, self.preprocessing)
        return Outputs(compute_logits(self.fabric, self.base, samples, self.preprocessing), packed_NM, label_N)

    def _decide_chunk(self, samples: Samples) -> Decision:
        base_logits_NC = compute_logits(self.fabric, self.base, samples, self.preprocessing)

        def ask(cluster: int, rows: IntArray) -> FloatArray:
            some = samples.take(torch.from_numpy(rows))
            return compute_logits(self.fabric, self.specialists[str(cluster)], some, self.preprocessing)

        return self._decide(base_logits_NC, ask)

    def _decide(self, base_logits_NC: FloatArray, ask: Callable[[int, IntArray], FloatArray]) -> Decision:
        """``ask(cluster, rows)`` gives the logits of a cluster's specialist for some rows."""
        base_proba_NC = softmax(base_logits_NC, axis=1)
        score_N = entropy(base_proba_NC)
        routed_N = score_N >= self.gate.threshold
        cluster_N = route(base_proba_NC, self.partition)
        packed_NM = np.full((len(base_proba_NC), int(self.partition.size_S.sum())), np.nan, dtype=np.float32)
        for cluster in range(self.partition.n_clusters):
            rows = np.flatnonzero(routed_N & (cluster_N == cluster))
            if rows.size:
                lone = str(cluster) not in self.specialists
                packed_NM[rows, self.partition.columns(cluster)] = 0.0 if lone else ask(cluster, rows)
        proba_NC = combine(
            self.combiner,
            base_proba_NC,
            packed_softmax(packed_NM, self.partition),
            self.partition,
            cluster_N,
            routed_N,
        )
        return Decision(proba_NC, base_logits_NC, score_N, routed_N, cluster_N, packed_NM)

    def _explain(self, decision: Decision, row: int, top: int) -> Explanation:
        proba_C = decision.proba_NC[row]
        cluster = int(decision.cluster_N[row])
        routed = bool(decision.routed_N[row])
        classes = self.partition.classes(cluster)
        conditional = softmax(decision.packed_logits_NM[row, self.partition.columns(cluster)])
        best = int(proba_C.argmax())
        return Explanation(
            predicted=self.labels.names[best],
            probability=float(proba_C[best]),
            routed=routed,
            score=float(decision.score_N[row]),
            threshold=self.gate.threshold if np.isfinite(self.gate.threshold) else None,
            cluster=cluster,
            cluster_classes=self.labels.of(classes.tolist()),
            base_top=self._top(softmax(decision.base_logits_NC[row]), np.arange(len(self.labels)), top),
            specialist_top=self._top(conditional, classes, top) if routed else (),
        )

    def _top(self, proba: FloatArray, classes: IntArray, top: int) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-proba, kind="stable")[:top]
        return tuple((self.labels.names[classes[i]], float(proba[i])) for i in order)


def _log(proba_NC: FloatArray) -> FloatArray:
    # The least positive number for 0: next to nothing after a softmax, and a loss on it stays finite.
    return np.log(np.maximum(proba_NC, np.finfo(proba_NC.dtype).tiny))
