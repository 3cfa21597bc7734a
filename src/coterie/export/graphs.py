"""An ensemble as networks that can be traced: tensors in, tensors out, with the same operations for all values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from coterie.backbones.cut import TrunkOutput, make_observable
from coterie.backbones.probe import fitting
from coterie.ensemble.answer import TensorRule
from coterie.ensemble.ensemble import SpecialistEnsemble
from coterie.inputs import Preprocessing


class NetworkGraph(nn.Module):
    """A single network: inputs (B, ...) to logits float32 (B, width of its head), in the precision of its weights.

    Args:
        network: base or specialist.
        preprocessing: run in the graph, on batches of samples; None: the graph takes the network's inputs.
    """

    outputs = ("logits",)

    def __init__(self, network: nn.Module, preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing

    @override
    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.network(_prepared(inputs, self.preprocessing, self.network)).float(),)


class EnsembleGraph(nn.Module):
    """A base with tails on its trunk, and the rule: all tails are run on all rows, and the rule picks, in float32
    whatever the precision of the weights.

    Args:
        ensemble: with a shared trunk.
        cut: its trunk's last module.
        preprocessing: as for ``NetworkGraph``.
    """

    outputs = ("probabilities", "routed", "cluster")

    def __init__(self, ensemble: SpecialistEnsemble, cut: str, preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.base, self.tails, self.cut = ensemble.base, ensemble.specialists, cut
        self.preprocessing = preprocessing
        self.rule = TensorRule(ensemble.rule, ensemble.partition)
        self.sizes = ensemble.partition.size_S.tolist()
        # A tail that is never asked, such as one without weight, is no part of the graph.
        self.asked = set(ensemble.rule.combiner.needs_specialist(ensemble.partition).nonzero()[0].tolist())

    @override
    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Inputs (B, ...) to probabilities (B, C), whether routed (B,), and the likeliest cluster (B,)."""
        with TrunkOutput(make_observable(self.base, self.cut)) as output:
            base_NC = self.base(_prepared(inputs, self.preprocessing, self.base)).float()
        question = self.rule.ask(base_NC)
        parts = [
            self.tails[str(cluster)](output.latest).float()
            if cluster in self.asked
            else base_NC.new_zeros(base_NC.shape[0], size)
            for cluster, size in enumerate(self.sizes)
        ]
        padding_N1 = self.rule.no_answers(base_NC)[:, -1:]
        proba_NC = self.rule.combine(question, torch.cat([*parts, padding_N1], 1))
        return proba_NC, question.routed_N, question.cluster_NT[:, 0]


def _prepared(inputs: Tensor, preprocessing: Preprocessing | None, network: nn.Module) -> Tensor:
    return fitting(inputs if preprocessing is None else preprocessing(inputs), network)


def graphs_of(
    ensemble: SpecialistEnsemble, preprocessing: Preprocessing | None
) -> dict[str, NetworkGraph | EnsembleGraph]:
    """By name: ``ensemble``, one graph with everything in it, where the specialists share a trunk; else ``base`` and
    ``specialist-K`` for each cluster K whose specialist the rule may ask.
    """
    if ensemble.cut is not None:
        return {"ensemble": EnsembleGraph(ensemble, ensemble.cut, preprocessing)}
    asked = ensemble.rule.combiner.needs_specialist(ensemble.partition).nonzero()[0].tolist()
    networks = {"base": ensemble.base} | {f"specialist-{k}": ensemble.specialists[str(k)] for k in asked}
    return {name: NetworkGraph(network, preprocessing) for name, network in networks.items()}
