"""What makes specialists worth having on a base that was fine-tuned from pretrained weights?

Question: on such bases, which know their training samples nearly by heart, what do the learning rate, the number of
epochs, the head alone, batch statistics, an average of the weights, mixup, distillation from the base, samples of other
clusters, a start from the pretrained weights, other numbers of clusters, and averages of finished specialists with the
base (WiSE-FT, Wortsman et al. 2022, arXiv 2109.01903) or with each other (soups, arXiv 2203.05482) change? Specialists
are tails on the base's trunk, whose outputs are computed once for all trials. Of each: the gain on test by the rule
that validation chooses within 1.5 passes; how far the specialist of the true cluster is ahead of the base restricted to
the cluster's classes; and in how many clusters it is. All-class copies, averaged with the base inside the cluster and
outside, are the control.

The trials were fixed before any was run. One that is finished is kept and not computed again.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from typing_extensions import override

from benchmarks.gains.fine_tuned import DATA, Data, base_run, spectral
from benchmarks.shared import command, markdown_table, write_result
from coterie.arrays import FloatArray, IntArray
from coterie.backbones.adapters import weights_of
from coterie.backbones.base import Base
from coterie.backbones.cut import run_trunk, tail_of
from coterie.backbones.flops import inference_flops
from coterie.backbones.parts import trained_part
from coterie.backbones.specialist import make_specialist
from coterie.cli.terminal.progress import LineProgress
from coterie.config import SpecialistSettings
from coterie.config.defaults import SPECIALIST
from coterie.data.batches import Batches, augmentation_of, plain_batches, training_batches
from coterie.data.splits import Split, Splits
from coterie.measures.significance import over_seeds
from coterie.pages.format import gain
from coterie.partition import Partition
from coterie.pipeline.prepare import base_of_run, prepare
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import Run
from coterie.training.distilling import Teacher
from coterie.training.fabric import make_fabric
from coterie.training.loop import train
from coterie.training.passes import put_in_use

CLUSTERS = 5
PASSES = 1.5
PADDING = -1  # of tokens
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a specialist's weights in WiSE-FT
# What is trained, by backbone: what takes at most half of the network's operations.
PARTS = {"transformers": "last-3", "timm": "last-12"}


@dataclass(frozen=True)
class Trial:
    """A way to make specialists: ``training``: settings beside fine-tuning's own; ``others``: samples of other clusters
    for each of the own ones, all classes being told apart; ``pretrained``: whether tails start from the weights of
    before the fine-tuning; ``taught``: the base's share of the target; ``clusters``: their number; ``of``: titles of
    trials whose specialists are averaged, with each other, or of a single one with the base.
    """

    title: str
    training: Mapping[str, Any] | None = None
    others: float = 0.0
    pretrained: bool = False
    taught: float = 0.0
    clusters: int = CLUSTERS
    head: bool = False
    of: tuple[str, ...] = ()
    images: bool = False


PLAIN = "fine-tuning's defaults: AdamW, 1e-4, 3 epochs, statistics frozen"
FAST, LONG = "a learning rate of 3e-4", "6 epochs"
TRIALS = (
    Trial(PLAIN),
    Trial("a learning rate of 3e-5", {"learning_rate": 3e-5}),
    Trial(FAST, {"learning_rate": 3e-4}),
    Trial("a learning rate of 1e-3", {"learning_rate": 1e-3}),
    Trial("1 epoch", {"epochs": 1}),
    Trial(LONG, {"epochs": 6}),
    Trial("the head alone", head=True),
    Trial("batch statistics trained", {"batch_norm": "train"}, images=True),
    Trial("SGD, 0.005", {"optimizer": "sgd", "learning_rate": 0.005, "weight_decay": 5e-4}),
    Trial("a running average of the weights, decay 0.99", {"average_decay": 0.99, "average_warmup": True}),
    Trial("label smoothing 0.1", {"label_smoothing": 0.1}),
    Trial("mixup of the trunk's output, alpha 0.4", {"mixup": 0.4}, images=True),
    Trial("distillation, half of the target from the base", taught=0.5),
    Trial("as many samples of other clusters, all classes told apart", others=1.0),
    Trial("tails from the pretrained weights", {"learning_rate": 3e-4, "epochs": 6}, pretrained=True),
    Trial("2 clusters", clusters=2),
    Trial("15 clusters", clusters=15),
    Trial("an all-class copy (control)", clusters=1),
    Trial("WiSE-FT of the defaults, a share for each cluster by validation", of=(PLAIN,)),
    Trial("WiSE-FT of 3e-4", of=(FAST,)),
    Trial("a soup of the defaults, 3e-4 and 6 epochs", of=(PLAIN, FAST, LONG)),
)


class _Kept(Batches):
    """Batches of the trunk's outputs of some training samples, in views that are taken in turn."""

    def __init__(
        self, views: list[Tensor], split: Split, splits: Splits, rows: IntArray, batch_size: int, seed: int
    ) -> None:
        super().__init__(split, splits.preprocessing, batch_size, seed, balanced=False)
        self.views, self.rows = views, torch.from_numpy(rows)

    @override
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        view = self.views[number % len(self.views)]
        for some, _ in self.draws(number, first):
            batch = view[self.rows[some]]
            if batch.ndim == 4:
                batch = batch.contiguous(memory_format=torch.channels_last)
            yield _trimmed(batch), self.split.labels_N[some]


@dataclass(frozen=True, eq=False)
class Bench:
    """A fine-tuned base, and what its trunk makes of all samples. A network that cannot be cut, as transformers' cannot
    (each layer looks at the mask), has no trunk: its specialists take its own inputs, and a pass each.
    """

    run: Run
    splits: Splits
    base: Base
    before: nn.Module
    choice: str

    @classmethod
    def of(cls, run: Run) -> "Bench":
        """With the network as it was before it was fine-tuned."""
        splits, base = base_of_run(run)
        before = prepare(run.settings, splits=splits).base.network
        library = str(run.settings.backbone).partition(":")[0]
        return cls(run, splits, base, before.eval(), PARTS[library])

    @property
    def images(self) -> bool:
        """Whether there are batch norms and augmented views."""
        return self.splits.preprocessing.modality == "image"

    @cached_property
    def fabric(self) -> Any:
        """Of one thread or more, as the run's."""
        return make_fabric(self.run.settings.hardware)

    @cached_property
    def example(self) -> Tensor:
        return self.splits.preprocessing.example()

    @cached_property
    def cut(self) -> str | None:
        """Where the trunk ends, if there is one."""
        return trained_part(self.base.network.eval(), self.base.head, self.example, self.choice).cut

    def tail(self, network: nn.Module) -> nn.Module:
        """What runs after the trunk."""
        return network if self.cut is None else tail_of(network, self.cut, self.example)

    @cached_property
    def cost(self) -> float:
        """Of a tail, in the base's passes."""
        if self.cut is None:
            return 1.0
        features = run_trunk(self.base.network.eval(), self.cut, self.example[:1])
        tail = self.tail(self.base.network)
        return inference_flops(tail, features) / inference_flops(self.base.network, self.example[:1])

    @torch.no_grad()
    def trunk(self, batches: Iterator[Tensor]) -> Tensor:
        """Its outputs."""
        if self.cut is None:
            parts = list(batches)
            width = max(part.shape[1] for part in parts)
            return torch.cat([F.pad(part, (0, width - part.shape[1]), value=PADDING) for part in parts])
        put_in_use(self.base.network, self.fabric.device)
        return torch.cat([run_trunk(self.base.network, self.cut, inputs).contiguous() for inputs in batches])

    @cached_property
    def views(self) -> list[Tensor]:
        """Of the training samples in order: of augmented images as many as specialists have epochs, else one."""
        numbered = Split(self.splits.train.samples, torch.arange(len(self.splits.train)))
        size = self.splits.preprocessing.at_once
        found = []
        for number in range(SPECIALIST["epochs"] if self.images else 1):  # type: ignore[call-overload]
            batches = training_batches(
                numbered,
                self.splits.preprocessing,
                augmentation_of(self.run.settings.data, self.splits),
                batch_size=min(size, len(numbered)),
                seed=number,
                workers=0,
            )
            inputs, rows = zip(*batches.epoch(0, self.fabric.device), strict=True)
            features, drawn = self.trunk(iter(inputs)), torch.cat(rows)
            # What is left after the last full batch is taken as it is.
            left = torch.from_numpy(np.setdiff1d(np.arange(len(numbered)), drawn.numpy()))
            if len(left):
                plain = plain_batches(numbered.samples.take(left), self.splits.preprocessing, size, self.fabric.device)
                features, drawn = torch.cat([features, self.trunk(plain)]), torch.cat([drawn, left])
            found.append(features[drawn.argsort()])
        return found

    @cached_property
    def judged(self) -> dict[str, tuple[Tensor, FloatArray, IntArray]]:
        """Of validation and test: the trunk's outputs, the base's logits, labels."""
        found = {}
        for name in ("validation", "test"):
            split: Split = getattr(self.splits, name)
            size = self.splits.preprocessing.at_once
            features = self.trunk(plain_batches(split.samples, self.splits.preprocessing, size, self.fabric.device))
            tail = self.tail(self.base.network.eval())
            found[name] = features, self.answers(tail, features), split.labels_N.numpy()
        return found

    @torch.inference_mode()
    def answers(self, tail: nn.Module, features: Tensor) -> FloatArray:
        """Logits."""
        put_in_use(tail, self.fabric.device)
        order = torch.arange(len(features)) if features.is_floating_point() else _length_N(features).argsort()
        parts = order.split(self.splits.preprocessing.at_once)
        logits = torch.cat([tail(_trimmed(features[rows])).float() for rows in parts])
        return logits[order.argsort()].numpy()

    def partition(self, n_clusters: int) -> Partition:
        """Spectral, of the head."""
        _, base_NC, label_N = self.judged["validation"]
        return spectral(self.run, self.base, base_NC, label_N, n_clusters)

    def train(self, trial: Trial, partition: Partition, cluster: int) -> nn.Module:
        """A cluster's specialist; where others are told apart too, of all classes."""
        own, seed = partition.classes(cluster), self.run.settings.seed + 1 + cluster
        classes = np.arange(len(self.splits.labels)) if trial.others else own
        settings = SpecialistSettings(**{**SPECIALIST, **(trial.training or {})})
        network = make_specialist(self.base.network, self.base.head, classes)
        if trial.pretrained:
            fresh = make_specialist(self.before, self.base.head, classes).state_dict()
            head = self.base.head.path
            network.load_state_dict({**fresh, **{k: v for k, v in network.state_dict().items() if k.startswith(head)}})
        choice = "head" if trial.head else self.choice
        part = trained_part(network.eval(), self.base.head, self.example, choice)
        if settings.batch_norm == "frozen":
            part = part.with_still_norms(network)
        part.prepare(network.train(), seed)
        tail, label_N = self.tail(network), self.splits.train.labels_N.numpy()
        row_R = np.flatnonzero(np.isin(label_N, own))
        if trial.others:
            rest = np.setdiff1d(np.arange(len(label_N)), row_R)
            n_others = min(len(rest), int(trial.others * len(row_R)))
            row_R = np.sort(np.concatenate([row_R, np.random.default_rng(seed).choice(rest, n_others, replace=False)]))
        local = Split(
            self.splits.train.samples.take(torch.from_numpy(row_R)),
            torch.from_numpy(np.searchsorted(classes, label_N[row_R])),
        )
        teacher = None
        if trial.taught:
            base_tail, some = self.tail(self.base.network.eval()), torch.from_numpy(classes)
            teacher = Teacher(lambda features: base_tail(features.clone())[:, some], trial.taught, 1.0)
        train(
            self.fabric,
            tail,
            _Kept(self.views, local, self.splits, row_R, settings.batch_size, seed),
            settings,
            LineProgress(Console(quiet=True)),
            part=replace(part, head=(self.base.head.path, *self.base.head.more)),
            teacher=teacher,
        )
        return network.eval()

    def specialists(self, trial: Trial, partition: Partition, known: dict[str, list[nn.Module]]) -> list[nn.Module]:
        """Trained, or made of those that other trials trained."""
        sizes = partition.size_S
        if not trial.of:
            return [self.train(trial, partition, k) if sizes[k] > 1 else nn.Identity() for k in range(len(sizes))]
        found = []
        for cluster in range(len(sizes)):
            start = make_specialist(self.base.network, self.base.head, partition.classes(cluster))
            parts = [weights_of(known[title][cluster]) for title in trial.of]
            if len(parts) > 1:
                found.append(self._mean(start, parts, [1 / len(parts)] * len(parts)))
                continue
            both = [weights_of(start), parts[0]]
            tried = [self._mean(start, both, [1 - share, share]) for share in SHARES]
            found.append(max(tried, key=lambda network: self._in_cluster(network, partition, cluster, "validation")[0]))
        return found

    @staticmethod
    def _mean(like: nn.Module, parts: list[dict[str, Tensor]], weights: list[float]) -> nn.Module:
        network = copy.deepcopy(like)
        mean = {name: sum(w * part[name] for w, part in zip(weights, parts, strict=True)) for name in parts[0]}
        network.load_state_dict({name: torch.as_tensor(value).to(parts[0][name].dtype) for name, value in mean.items()})
        return network.eval()

    def _in_cluster(self, network: nn.Module, partition: Partition, cluster: int, name: str) -> tuple[int, int, int]:
        """Of the samples of a cluster's classes: how often the specialist is right, the restricted base, and all."""
        features, base_NC, label_N = self.judged[name]
        classes = partition.classes(cluster)
        row_R = np.flatnonzero(np.isin(label_N, classes))
        tail = self.tail(network)
        said_RK = _own(self.answers(tail, features[torch.from_numpy(row_R)]), classes)
        ours, base = (
            int((classes[values_RK.argmax(axis=1)] == label_N[row_R]).sum())
            for values_RK in (said_RK, base_NC[np.ix_(row_R, classes)])
        )
        return ours, base, len(row_R)

    def figures(self, trial: Trial, partition: Partition, networks: list[nn.Module]) -> list[float]:
        """Gain in points and passes; the lead in the true cluster in points; clusters ahead, and of how many."""
        outputs = {}
        for name, (features, base_NC, label_N) in self.judged.items():
            mass_NS = partition.mass_NS(softmax(base_NC, axis=1))
            # The rules that are tried ask the two likeliest at most, and learn from the true one.
            asked_NS = mass_NS >= np.sort(mass_NS, axis=1)[:, [-min(2, mass_NS.shape[1])]]
            asked_NS |= partition.member_SC[:, label_N].T
            packed_NM = np.zeros((len(label_N), len(partition.packed_class_M)), dtype=np.float32)
            for cluster, network in enumerate(networks):
                classes, row_R = partition.classes(cluster), np.flatnonzero(asked_NS[:, cluster])
                if len(classes) == 1 or row_R.size == 0:
                    continue
                tail = self.tail(network)
                said_RK = _own(self.answers(tail, features[torch.from_numpy(row_R)]), classes)
                packed_NM[row_R[:, None], np.arange(packed_NM.shape[1])[partition.columns(cluster)]] = said_RK
            outputs[name] = Outputs(base_NC, packed_NM, label_N, pass_cost=self.cost)
        rule = tune(outputs["validation"], partition, TuningRequest(budget=Budget(passes=PASSES))).rule
        report = evaluate(outputs["test"], partition, rule)
        inside = np.array(
            [
                self._in_cluster(network, partition, cluster, "test")
                for cluster, network in enumerate(networks)
                if partition.size_S[cluster] > 1
            ]
        )
        ours, base, total = inside.sum(axis=0)
        ahead = float((inside[:, 0] > inside[:, 1]).sum())
        return [100 * report.gain, report.mean_passes, 100 * (ours - base) / total, ahead, float(len(inside))]


def _length_N(tokens_NL: Tensor) -> Tensor:
    return (tokens_NL != PADDING).sum(1)


def _trimmed(inputs: Tensor) -> Tensor:
    """Tokens without columns of padding alone; others as they are."""
    return inputs if inputs.is_floating_point() else inputs[:, : int(_length_N(inputs).max())]


def _own(logits_RC: FloatArray, classes: IntArray) -> FloatArray:
    """The columns of a cluster's classes, of one that has no others, or all."""
    return logits_RC if logits_RC.shape[1] == len(classes) else logits_RC[:, classes]


def measure(data: Data, shared: Path, runs: Path, seed: int, out: Path) -> dict[str, list[float]]:
    """All trials on one base."""
    file = out / f"{data.folder}-{seed}.json"
    rows: dict[str, list[float]] = json.loads(file.read_text()) if file.exists() else {}
    bench = Bench.of(base_run(data, shared, runs, seed))
    todo = [trial for trial in TRIALS if trial.title not in rows and (bench.images or not trial.images)]
    known: dict[str, list[nn.Module]] = {}
    for trial in todo:
        partition = bench.partition(trial.clusters)
        for title in trial.of:
            if title not in known:
                known[title] = bench.specialists(next(t for t in TRIALS if t.title == title), partition, {})
        networks = bench.specialists(trial, partition, known)
        if any(trial.title in other.of for other in TRIALS):
            known[trial.title] = networks
        rows[trial.title] = bench.figures(trial, partition, networks)
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
        print(data.folder, seed, trial.title, " ".join(f"{value:+.2f}" for value in rows[trial.title]), flush=True)
    return rows


def main(shared: Path, runs: Path = Path("runs/second-opinions"), seeds: int = 3, only: tuple[str, ...] = ()) -> None:
    """Run what is missing, and write a table for each data set.

    Args:
        shared: folder of hwu64, clinc150 and cifar100, each with its parquet files.
        runs: folder of the bases, and of finished rows.
        seeds: of each base, from 0 on.
        only: data sets whose names hold one of these; default: all.
    """
    for name, data in DATA.items():
        if only and not any(word in name for word in only):
            continue
        found = [measure(data, shared, runs, seed, runs / "trials") for seed in range(seeds)]
        rows = []
        for trial in TRIALS:
            if not all(trial.title in each for each in found):
                continue
            value_RF = np.array([each[trial.title] for each in found])
            won, lead = (gain(over_seeds(value_RF[:, column] / 100)) for column in (0, 2))
            rows.append(
                (
                    trial.title,
                    won,
                    ", ".join(f"{value:+.2f}" for value in value_RF[:, 0]),
                    f"{value_RF[:, 1].mean():.2f}",
                    lead,
                    f"{value_RF[:, 3].sum():.0f} of {value_RF[:, 4].sum():.0f}",
                )
            )
        titles = ("specialists", "gain, points", "by seed", "passes", "lead in the true cluster", "clusters ahead")
        said = f"{__doc__}\n{name}; seeds: {seeds}.\n\n{markdown_table(titles, rows)}"
        write_result(__file__, said, f"fine_tuned_trials_{data.folder}")


if __name__ == "__main__":
    command(main)
