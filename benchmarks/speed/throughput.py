"""Training throughput of base and specialist, side by side with a bare loop and with pytorch-lightning's Trainer.

Question: does coterie's loop cost anything over the plainest PyTorch loop, and what does it save against the usual
way (Trainer, torchvision transforms, DataLoader)? Same network, batch, precision, augmentation and optimiser. The
images are noise of CIFAR-100's size: throughput does not depend on what they show. Contenders take turns, each in a
process of its own and after a warm-up, several rounds; the median of the rounds is given.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from benchmarks.shared import alone, command, write_result
from coterie.backbones import build
from coterie.config import HardwareSettings, TrainingSettings
from coterie.data.batches import Augmentation, augment, training_batches
from coterie.data.splits import Split
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.progress import SILENT
from coterie.training.fabric import make_fabric
from coterie.training.loop import train
from coterie.training.process import configure_process

BATCH, WARM_UP, STEPS, ROUNDS = 128, 10, 50, 4
TRAINING = TrainingSettings(epochs=1, batch_size=BATCH)
SHAPE = ImagePreprocessing(32, 32, 3, mean=(0.0,) * 3, std=(1.0,) * 3)


def network(n_classes: int) -> nn.Module:
    """The base, or a specialist with fewer classes."""
    return build("convnet-64", n_classes, SHAPE, seed=0)


def everything(split: Split) -> torch.Tensor:
    """The images, in one array."""
    return split.samples.read(torch.arange(len(split)))


def ours(split: Split, form: ImagePreprocessing, n_classes: int) -> float:
    """coterie's loop."""
    batches = training_batches(split, form, Augmentation(4, True), batch_size=BATCH, seed=0, workers=0)
    configure_process(HardwareSettings())
    net, fabric = network(n_classes), make_fabric(HardwareSettings())
    started = time.perf_counter()
    train(fabric, net, batches, TRAINING, SILENT)
    return len(split) / (time.perf_counter() - started)


def bare(split: Split, form: ImagePreprocessing, n_classes: int) -> float:
    """The plainest loop: no settings, no meter, no checks."""
    net = network(n_classes).to(memory_format=torch.channels_last).train()
    decayed = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 5e-4}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9, nesterov=True, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=STEPS + 1)
    pixels, labels, generator = everything(split), split.labels_N, torch.Generator().manual_seed(0)
    started = time.perf_counter()
    for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
        inputs = form(augment(pixels[rows], Augmentation(4, True), generator))
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(inputs)
        loss = F.cross_entropy(logits.float(), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return len(split) / (time.perf_counter() - started)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """As torchvision's CIFAR100: an array, and a transform of PIL images."""

    def __init__(self, split: Split, form: ImagePreprocessing) -> None:
        self.pixels, self.labels = everything(split).numpy(), split.labels_N.tolist()
        mean, std = (np.array(values) / 255 for values in (form.mean, form.std))
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(mean.tolist(), std.tolist()),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[row])), self.labels[row]


class Classifier(pl.LightningModule):
    """The usual module."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.net = network(n_classes)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor:
        inputs, labels = batch
        return F.cross_entropy(self.net(inputs), labels)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=STEPS + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Clock(pl.Callback):
    """From the first batch that is ready to the last: what the Trainer does before and after does not count."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == 0:
            self.started = time.perf_counter()

    def on_train_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.started


def lightning(split: Split, form: ImagePreprocessing, n_classes: int, workers: int) -> float:
    """pytorch-lightning's Trainer with a DataLoader."""
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=len(split) // BATCH,
        precision="bf16-mixed",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[clock],
    )
    loader = DataLoader(
        Pictures(split, form), BATCH, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0
    )
    trainer.fit(Classifier(n_classes), loader)
    return len(split) / clock.seconds


def floor(n_classes: int) -> tuple[float, float]:
    """Floating-point operations per trained image, and the rate at which this machine multiplies bf16 matrices."""
    net = network(n_classes)
    with FlopCounterMode(display=False) as counter:
        net(torch.randn(1, 3, 32, 32)).sum().backward()
    a = torch.randn(2048, 2048, dtype=torch.bfloat16)
    rates = []
    for _ in range(10):
        started = time.perf_counter()
        a @ a
        rates.append(2 * 2048**3 / (time.perf_counter() - started))
    return counter.get_total_flops(), statistics.median(rates)


CONTENDERS: dict[str, Callable[[Split, ImagePreprocessing, int], float]] = {
    "coterie": ours,
    "bare PyTorch loop": bare,
    "Trainer, DataLoader in the process": lambda split, form, n_classes: lightning(split, form, n_classes, 0),
    "Trainer, DataLoader with 2 workers": lambda split, form, n_classes: lightning(split, form, n_classes, 2),
}


def run_one(name: str, n_classes: int) -> float:
    """Images per second of one contender's turn: a warm-up, then the timed steps."""
    warnings.filterwarnings("ignore")
    rng = np.random.default_rng(0)
    for steps in (WARM_UP, STEPS):
        pixels = torch.from_numpy(rng.integers(0, 256, size=(steps * BATCH, 32, 32, 3), dtype=np.uint8))
        split = Split(MemorySamples(pixels), torch.from_numpy(rng.integers(n_classes, size=len(pixels))))
        rate = CONTENDERS[name](split, ImagePreprocessing.measure(split.samples), n_classes)
    return rate


def main() -> None:
    """Run all contenders for the base (100 classes) and for a specialist (11 classes)."""
    lines = ["| | images/s | coterie against it |", "|---|---|---|"]
    base_rate = 0.0
    for title, n_classes in (("base, 100 classes", 100), ("specialist, 11 classes", 11)):
        rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(ROUNDS):
            for name in CONTENDERS:
                rates[name].append(alone(run_one, name, n_classes))
                print(title, name, round(rates[name][-1]), flush=True)
        for name, values in rates.items():
            # Contenders of one round ran within a minute of each other: the ratio is taken round by round.
            ratio = statistics.median(a / b for a, b in zip(rates["coterie"], values, strict=True))
            lines.append(f"| {title}: {name} | {statistics.median(values):.0f} | {ratio:.2f} |")
        base_rate = base_rate or statistics.median(rates["coterie"])
    flops, peak = floor(100)
    rate = flops * base_rate
    lines += [
        "",
        (
            f"The base takes {flops / 1e6:.0f} million floating-point operations per trained image, so coterie runs at "
            f"{rate / 1e9:.0f} GFLOP/s; this machine multiplies 2048 x 2048 bf16 matrices at {peak / 1e9:.0f} GFLOP/s: "
            f"{rate / peak:.0%} of that."
        ),
    ]
    write_result(__file__, "\n".join(lines))


if __name__ == "__main__":
    command(main)
