"""What keeps specialists from overfitting, and what helps the choice of the cluster?

Question: from the bases of finished runs, with specialists that are tails on a shared trunk, what do the learning rate,
the number of epochs, early stopping, distillation from the base, mixup, label smoothing, an average of the weights, a
class for "none of mine", and epochs of those samples alone that the base doubts change in the gain? And what does a
copy of the tail for all classes, averaged with the base, add as a second opinion on the cluster?

A row that is finished is kept in OUT, and not computed again. Ctrl-C ends the training; the table then has the rows
that are there.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation

import coterie
from benchmarks.shared import command, write_result
from coterie.backbones.base import Base
from coterie.backbones.cut import tail_of
from coterie.backbones.specialist import make_specialist
from coterie.config import FitSettings, SpecialistSettings
from coterie.data import load
from coterie.data.splits import Splits
from coterie.ensemble.panel import Panel
from coterie.pipeline.prepare import prepare, training_batches_of
from coterie.routing.evaluation import Outputs, evaluate
from coterie.routing.gate import Budget
from coterie.routing.tune import TuningRequest, tune
from coterie.run.folder import FinishedRun, Run
from coterie.run.names import BASE_FILE
from coterie.run.reporting import read_outputs
from coterie.run.values import partition_of
from coterie.training.fabric import make_fabric
from coterie.training.loop import make_optimizer, make_schedule
from coterie.training.process import configure_process
from coterie.training.trunk import TrunkBatches

PART = "stage3"
PLAIN = SpecialistSettings(trainable=PART, learning_rate=0.2, epochs=8, views=4)
# Of the training samples of other clusters, those that a class for "none of mine" is shown in an epoch: as many as a
# cluster of its own has in each class, twice.
OTHERS = 2
LEAST_DOUBT = 0.02
STOPPED = PLAIN.model_copy(update={"epochs": 16, "patience": 3})
COPY = "plain, the base averaged with a tail for all classes (whose cost is not counted)"


@dataclass(frozen=True)
class Option:
    """A way to train: what is changed of the settings, the share of the base's word in the target, mixup's alpha, the
    decay of an average of the weights, whether there is a class for all others, and the share of the samples that an
    epoch has: each as likely as the base doubts it.
    """

    title: str
    learning_rate: float = PLAIN.learning_rate
    epochs: int = PLAIN.epochs
    smoothing: float = 0.0
    distilled: float = 0.0
    mixup: float = 0.0
    decay: float = 0.0
    others: bool = False
    share: float = 1.0


OPTIONS = (
    Option("plain: learning rate 0.2, 8 epochs"),
    Option("learning rate 0.05", learning_rate=0.05),
    Option("learning rate 0.1", learning_rate=0.1),
    Option("learning rate 0.4", learning_rate=0.4),
    Option("4 epochs", epochs=4),
    Option("16 epochs", epochs=16),
    Option("label smoothing 0.1", smoothing=0.1),
    Option("distillation, 0.3 from the base", distilled=0.3),
    Option("mixup of the trunk's output, alpha 0.2", mixup=0.2),
    Option("average of the weights, decay 0.99", decay=0.99),
    Option('a class for "none of mine"', others=True),
    Option("16 epochs of half of the samples, rather those that the base doubts", epochs=16, share=0.5),
)


@dataclass(frozen=True, eq=False)
class Bench:
    """A finished run with its base, its data, and what the trunk makes of the training samples."""

    run: FinishedRun
    settings: FitSettings
    splits: Splits
    base: Base
    views: TrunkBatches
    pass_cost: float

    @classmethod
    def of(cls, path: Path) -> "Bench":
        """The trunk's output is computed here."""
        run = Run.open_complete(path)
        settings = run.settings.model_copy(update={"specialist": PLAIN})
        splits = load(settings.data, settings.seed)
        prepared = prepare(settings, splits=splits, base_run=run.path)
        base, trunk = prepared.base, prepared.trunk
        run.read_weights(BASE_FILE, base.network)
        batches = training_batches_of(prepared, splits.train, settings.specialist, settings.seed)
        assert trunk is not None
        views = TrunkBatches(batches, prepared.fabric, base.network, trunk.cut, PLAIN.views)
        return cls(run, settings, splits, base, views, trunk.pass_cost)

    def train(self, classes: np.ndarray, option: Option, seed: int) -> nn.Module:
        """One tail for some classes; with ``others``, its last output is none of them."""
        specialist = make_specialist(self.base.network, self.base.head, classes)
        if option.others:
            head: Any = specialist.get_submodule(self.base.head.path)
            wide = nn.Linear(head.in_features, head.out_features + 1).to(head.weight)
            with torch.no_grad():
                wide.weight.copy_(torch.cat([head.weight, head.weight.mean(0, keepdim=True)]))
                wide.bias.copy_(torch.cat([head.bias, head.bias.mean()[None]]))
            specialist.set_submodule(self.base.head.path, wide)
        self.base.part.prepare(specialist.train(), seed)
        tail = self.tail(specialist)
        teacher = self.tail(self.base.network.eval())
        settings = PLAIN.model_copy(update={"learning_rate": option.learning_rate, "epochs": option.epochs})
        configure_process(self.settings.hardware)
        fabric, rng = make_fabric(self.settings.hardware), np.random.default_rng(seed)
        local_C = np.full(len(self.splits.labels), -1)
        local_C[classes] = np.arange(len(classes))
        n_own = int((local_C[self.views.view_V[0][1].cpu()] >= 0).sum())
        steps = int(option.share * n_own) // settings.batch_size
        tail.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(tail, settings)
        schedule = make_schedule(optimizer, settings, steps * option.epochs)
        mean = torch.optim.swa_utils.AveragedModel(
            tail, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(option.decay), use_buffers=True
        )
        for epoch in range(option.epochs):
            for features, label_B in self.batches(local_C, option, epoch, steps, rng):
                with fabric.autocast():
                    loss = self.loss(tail, teacher, classes, option, features, label_B, rng)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                if option.decay:
                    mean.update_parameters(tail)
        return (mean.module if option.decay else tail).eval()

    def tail(self, network: nn.Module) -> nn.Module:
        """On the trunk's output."""
        assert self.base.part.cut is not None
        return tail_of(network, self.base.part.cut, self.splits.preprocessing.example())

    @cached_property
    def doubt_VN(self) -> list[np.ndarray]:
        """One minus the base's probability of the true class, for each sample of each view; never quite zero."""
        tail, found = self.tail(self.base.network.eval()), []
        with torch.inference_mode():
            for features_N, label_N in self.views.view_V:
                logits = torch.cat([tail(features.clone()).float() for features in features_N.split(1000)])
                own_N = logits.softmax(1).gather(1, label_N[:, None])[:, 0]
                found.append(np.maximum(1 - own_N.cpu().numpy(), LEAST_DOUBT))
        return found

    def batches(
        self, local_C: np.ndarray, option: Option, epoch: int, steps: int, rng: np.random.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of one epoch; labels count within the cluster, those of other clusters are one more than its last."""
        features_N, label_N = self.views.view_V[epoch % PLAIN.views]
        local_N = local_C[label_N.cpu()]
        ours = rng.permutation(np.flatnonzero(local_N >= 0))
        if option.others:
            n_own, others = int((local_C >= 0).sum()), np.flatnonzero(local_N < 0)
            n = min(len(others), OTHERS * len(ours) // n_own)
            local_N = np.where(local_N < 0, n_own, local_N)
            ours = rng.permutation(np.concatenate([ours, rng.choice(others, n, replace=False)]))
        if option.share < 1:
            doubt_R = self.doubt_VN[epoch % PLAIN.views][ours]
            scale = brentq(lambda scale: np.minimum(scale * doubt_R, 1).mean() - option.share, 0, 1 / doubt_R.min())
            ours = ours[rng.random(len(ours)) < scale * doubt_R]
        for rows in np.array_split(ours, max(steps, 1)):
            features = features_N[torch.from_numpy(rows).to(features_N.device)]
            yield (
                features.contiguous(memory_format=torch.channels_last),
                torch.from_numpy(local_N[rows]).to(features.device),
            )

    def loss(
        self,
        tail: nn.Module,
        teacher: nn.Module,
        classes: np.ndarray,
        option: Option,
        features: Tensor,
        label_B: Tensor,
        rng: np.random.Generator,
    ) -> Tensor:
        """Of one batch."""
        if option.mixup:
            share, order = float(rng.beta(option.mixup, option.mixup)), torch.from_numpy(rng.permutation(len(label_B)))
            order = order.to(features.device)
            logits = tail(share * features + (1 - share) * features[order]).float()
            return share * F.cross_entropy(logits, label_B) + (1 - share) * F.cross_entropy(logits, label_B[order])
        logits = tail(features.clone()).float()
        loss = F.cross_entropy(logits, label_B, label_smoothing=option.smoothing)
        if option.distilled:
            with torch.no_grad():
                known = F.log_softmax(teacher(features)[:, torch.from_numpy(classes)].float(), dim=1)
            apart = F.kl_div(F.log_softmax(logits, dim=1), known, reduction="batchmean", log_target=True)
            loss = (1 - option.distilled) * loss + option.distilled * apart
        return loss

    def outputs(self, tails: dict[int, nn.Module]) -> dict[str, Outputs]:
        """What base and tails say of validation and test."""
        partition = partition_of(self.run.manifest)
        widths = {cluster: int(partition.size_S[cluster]) for cluster in tails}
        cut_off = {cluster: _First(network, widths[cluster]) for cluster, network in tails.items()}
        configure_process(self.settings.hardware)
        fabric, found = make_fabric(self.settings.hardware), {}
        panel = Panel(fabric, self.base.network, cut_off, self.splits.preprocessing, self.base.part.cut)
        for name in ("validation", "test"):
            plain = read_outputs(self.run, name)
            packed_NM = panel.ask_all(getattr(self.splits, name).samples, partition)[1]
            found[name] = replace(plain, packed_NM=packed_NM, pass_cost=self.pass_cost)
        return found


class _First(nn.Module):
    """A network's first outputs: without "none of mine"."""

    def __init__(self, network: nn.Module, width: int) -> None:
        super().__init__()
        self.network, self.width = network, width

    def forward(self, features: Tensor) -> Tensor:
        """Logits of the cluster's own classes."""
        logits: Tensor = self.network(features)[:, : self.width]
        return logits


def figures(bench: Bench, outputs: dict[str, Outputs]) -> list[float]:
    """Gain over the run's base in points without a limit and within 1.25 passes; how often the specialist of the true
    cluster is right, in %; and how often the true cluster is chosen.
    """
    partition, found = partition_of(bench.run.manifest), []
    base_N = read_outputs(bench.run, "test").base_NC.argmax(axis=1)
    base = float((base_N == outputs["test"].label_N).mean())
    for budget in (Budget(), Budget(passes=1.25)):
        rule = tune(outputs["validation"], partition, TuningRequest(budget=budget)).rule
        report = evaluate(outputs["test"], partition, rule)
        found.append(100 * (report.ensemble_top1 - base))
    return [*found, 100 * report.oracle_specialist, 100 * report.router_accuracy]


def second_opinion(outputs: dict[str, Outputs], copies: dict[str, np.ndarray]) -> dict[str, Outputs]:
    """With the geometric mean of base and copy in the base's place."""
    return {
        name: replace(
            one,
            base_NC=((log_softmax(one.base_NC, axis=1) + log_softmax(copies[name], axis=1)) / 2).astype(np.float32),
        )
        for name, one in outputs.items()
    }


def file_of(path: Path, out: Path) -> Path:
    """Where the rows of one run's base are kept."""
    return out / f"{path.parent.name}-{path.name}.json"


def rows_of(file: Path) -> dict[str, list[float]]:
    """Those that are there."""
    return json.loads(file.read_text()) if file.exists() else {}


def train(path: Path, out: Path) -> None:
    """All options from one run's base."""
    file = file_of(path, out)
    rows = rows_of(file)
    if len(rows) == len(OPTIONS) + 4:
        return
    bench = Bench.of(path)
    partition = partition_of(bench.run.manifest)

    def keep(title: str, values: list[float]) -> None:
        rows[title] = values
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
        print(path, title, " ".join(f"{value:.2f}" for value in values), flush=True)

    @cache  # the plain ones are wanted twice
    def tails(option: Option) -> dict[str, Outputs]:
        seed = bench.settings.seed
        clusters = range(partition.n_clusters)
        return bench.outputs({each: bench.train(partition.classes(each), option, seed + each) for each in clusters})

    whole = {name: read_outputs(bench.run, name) for name in ("validation", "test")}
    keep("whole specialists, as the run trained them", figures(bench, whole))
    for option in OPTIONS:
        if option.title not in rows:
            keep(option.title, figures(bench, tails(option)))
    if COPY in rows:
        return
    stopped = out / f"{file.stem}-stopped"
    settings = bench.settings.model_copy(update={"specialist": STOPPED})
    coterie.fit(settings, stopped, splits=bench.splits, base_run=path)
    run = Run.open_complete(stopped)
    epochs = np.mean([len(records) for title, records in run.read_json("history.json").items() if title != "base"])
    title = f"up to {STOPPED.epochs} epochs, patience {STOPPED.patience}: {epochs:.1f} on average"
    keep(title, figures(bench, {name: read_outputs(run, name) for name in ("validation", "test")}))
    everything = np.arange(len(bench.splits.labels))
    network = bench.train(everything, OPTIONS[0], bench.settings.seed)
    configure_process(bench.settings.hardware)
    fabric = make_fabric(bench.settings.hardware)
    panel = Panel(fabric, bench.base.network, {0: network}, bench.splits.preprocessing, bench.base.part.cut)
    copies = {name: _all_rows(panel, getattr(bench.splits, name)) for name in ("validation", "test")}
    for title, outputs in ((COPY, tails(OPTIONS[0])), ("the same, with the whole specialists", whole)):
        keep(title, figures(bench, second_opinion(outputs, copies)))


def _all_rows(panel: Panel, split: object) -> np.ndarray:
    """The only network's logits."""
    samples = split.samples  # type: ignore[attr-defined]
    asked = ((panel.ask(samples.take(rows))[1], len(rows)) for rows in panel.chunks(samples))
    return torch.cat([ask({0: np.arange(n)})[0] for ask, n in asked]).cpu().numpy()


def main(out: Path, runs: tuple[Path, ...]) -> None:
    """The table of means over runs.

    Args:
        out: folder of finished rows.
        runs: finished runs, of whose bases tails are trained.
    """
    with suppress(KeyboardInterrupt):
        for path in runs:
            train(path, out)
    found = [rows_of(file_of(path, out)) for path in runs]
    about = f"Means over {len(runs)} runs, on test; in brackets each run's. Tails go on from the part before {PART}."
    lines = [
        about,
        "",
        "| specialists | gain, points | gain within 1.25 passes | specialist of the true cluster, % | router, % |",
        "|---" * 5 + "|",
    ]
    for title in [title for title in found[0] if all(title in rows for rows in found)]:
        values_RF = np.array([rows[title] for rows in found])
        means = values_RF.mean(axis=0)
        each = ", ".join(f"{value:+.2f}" for value in values_RF[:, 0])
        lines.append(f"| {title} | {means[0]:+.2f} ({each}) | {means[1]:+.2f} | {means[2]:.2f} | {means[3]:.2f} |")
    write_result(__file__, "\n".join(lines))


if __name__ == "__main__":
    command(main)
