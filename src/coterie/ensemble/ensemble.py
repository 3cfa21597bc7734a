"""The trained thing: a base, its specialists, and the rule that says whom to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from scipy.special import softmax
from torch import Tensor, nn

from coterie.arrays import BoolArray, FloatArray, IntArray
from coterie.config import HardwareSettings
from coterie.ensemble.panel import Ask, Panel
from coterie.errors import InputError
from coterie.inputs import Preprocessing, Samples
from coterie.labels import LabelSpace
from coterie.partition import Partition
from coterie.routing.combine import safe_log
from coterie.routing.evaluation import Outputs
from coterie.routing.rule import Rule
from coterie.training.fabric import make_fabric

AUTOMATIC = HardwareSettings()


@dataclass(frozen=True, eq=False)
class Decision:
    """What was decided for N samples: probabilities, and how they came about.

    ``base_logits_NC``: as the network gave them; ``score_N``: the gate's; ``routed_N``; ``cluster_N``: the most likely
    cluster; ``asked_NS``: the clusters whose answer was taken in; ``packed_logits_NM``: the specialists' logits (see
    Partition), NaN where nobody was asked.
    """

    proba_NC: FloatArray
    base_logits_NC: FloatArray
    score_N: FloatArray
    routed_N: BoolArray
    cluster_N: IntArray
    asked_NS: BoolArray
    packed_logits_NM: FloatArray


@dataclass(frozen=True)
class SpecialistAnswer:
    """What one specialist said: its cluster, the weight that its word has beside the base's, and its top classes with
    their probabilities within the cluster.
    """

    cluster: int
    weight: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Explanation:
    """Why an image got its class: the top classes with their probabilities, of the base and of the specialists.

    ``specialists`` holds those that were asked, of the most likely cluster first: none where the base was sure, or
    where the specialists of the likely clusters have no weight. ``score`` is the gate's, named ``score_name``; a
    ``threshold`` of None routes nothing. ``cluster`` is the most likely one.
    """

    predicted: str
    probability: float
    routed: bool
    score_name: str
    score: float
    threshold: float | None
    cluster: int
    cluster_classes: tuple[str, ...]
    base_top: tuple[tuple[str, float], ...]
    specialists: tuple[SpecialistAnswer, ...]


class SpecialistEnsemble(nn.Module):
    """A base and one specialist per cluster; a module that goes where the base went.

    ``forward`` takes what the base takes and returns what the base returns: (B, C) values whose softmax are the
    ensemble's probabilities; where the base was sure they are its logits, divided by its temperature. The other methods
    take what its ``preprocessing.samples`` takes: images uint8 of shape (N, H, W) or (N, H, W, channels), of the size
    that the networks were trained on; or a data source's ``Samples``, which ``coterie.data.read_new`` makes of files.

    Args:
        base: the base network, trained.
        specialists: one network per cluster, or None for a cluster of one class; where there is a ``cut``, tails.
        partition: the clusters.
        labels: names of the classes.
        rule: who is routed, and how answers are combined.
        preprocessing: from sample to input.
        hardware: device and precision.
        cut: the module of the base whose output the specialists take, so that what runs before it is run once; None:
            they take what the base takes.
    """

    def __init__(
        self,
        base: nn.Module,
        specialists: list[nn.Module | None],
        partition: Partition,
        labels: LabelSpace,
        rule: Rule,
        preprocessing: Preprocessing,
        hardware: HardwareSettings = AUTOMATIC,
        cut: str | None = None,
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
        self.rule = rule
        self.preprocessing = preprocessing
        self.hardware = hardware
        self.cut = cut
        self.fabric: Fabric = make_fabric(hardware)
        self.to(self.fabric.device).eval()
        asked = {int(name): network for name, network in self.specialists.items()}
        self.panel = Panel(self.fabric, base, asked, preprocessing, cut)

    @torch.inference_mode()
    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs as the base takes them, such as (B, channels, H, W), to values (B, C)."""
        inputs = inputs.to(self.fabric.device)
        decision = self._decide(*self.panel.ask_inputs(inputs))
        base_NC = self.rule.base_logits(decision.base_logits_NC)
        values = np.where(decision.routed_N[:, None], safe_log(decision.proba_NC), base_NC)
        return torch.from_numpy(values).to(inputs.device)

    def decide(self, raw: Any) -> Decision:
        """Probabilities and all that led to them.

        Raises:
            InputError: the samples have another form than the networks take.
        """
        samples, panel = self.preprocessing.check(raw), self.panel
        chunks = [self._decide(*panel.ask(samples.take(rows))) for rows in panel.chunks(samples)]
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
        base_NC, packed_NM = self.panel.ask_all(self.preprocessing.check(samples), self.partition)
        return Outputs(base_NC, packed_NM, label_N)

    def _decide(self, base_logits_NC: FloatArray, ask: Ask) -> Decision:
        partition = self.partition
        question = self.rule.ask(base_logits_NC, partition)
        asked_NS = question.asked(question.routed_N)
        run_NS = asked_NS & self.rule.combiner.needs_specialist(partition)
        packed_NM = np.full((len(base_logits_NC), len(partition.packed_class_M)), np.nan, dtype=np.float32)
        for cluster in np.flatnonzero(run_NS.any(axis=0)).tolist():
            row_R = np.flatnonzero(run_NS[:, cluster])
            packed_NM[row_R, partition.columns(cluster)] = ask(cluster, row_R)
        return Decision(
            question.combine(packed_NM, asked_NS),
            base_logits_NC,
            question.score_N,
            question.routed_N,
            question.answer.cluster_N,
            asked_NS,
            packed_NM,
        )

    def _explain(self, decision: Decision, row: int, top: int) -> Explanation:
        proba_C = decision.proba_NC[row]
        cluster, best = int(decision.cluster_N[row]), int(proba_C.argmax())
        base_C = softmax(self.rule.base_logits(decision.base_logits_NC[row]))
        mass_S = self.partition.mass_NS(base_C[None])[0]
        heard = np.flatnonzero(decision.asked_NS[row] & self.rule.combiner.needs_specialist(self.partition))
        gate = self.rule.gate
        return Explanation(
            predicted=self.labels.names[best],
            probability=float(proba_C[best]),
            routed=bool(decision.routed_N[row]),
            score_name=gate.score,
            score=float(decision.score_N[row]),
            threshold=gate.threshold if np.isfinite(gate.threshold) else None,
            cluster=cluster,
            cluster_classes=self.labels.of(self.partition.classes(cluster).tolist()),
            base_top=self._top(base_C, np.arange(len(self.labels)), top),
            specialists=tuple(
                self._specialist_answer(decision, row, k, top) for k in sorted(heard.tolist(), key=lambda k: -mass_S[k])
            ),
        )

    def _specialist_answer(self, decision: Decision, row: int, cluster: int, top: int) -> SpecialistAnswer:
        columns = self.partition.columns(cluster)
        temperature_K = self.rule.temperatures.of_columns(self.partition)[columns]
        conditional = softmax(decision.packed_logits_NM[row, columns] / temperature_K)
        weight = float(self.rule.combiner.weights(self.partition)[cluster])
        return SpecialistAnswer(cluster, weight, self._top(conditional, self.partition.classes(cluster), top))

    def _top(self, proba: FloatArray, classes: IntArray, top: int) -> tuple[tuple[str, float], ...]:
        order = np.argsort(-proba, kind="stable")[:top]
        return tuple((self.labels.names[classes[i]], float(proba[i])) for i in order)
