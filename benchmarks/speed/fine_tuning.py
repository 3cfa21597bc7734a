"""Throughput of fine-tuning, side by side with a bare loop and with transformers' Trainer.

Question: what does coterie's loop cost over the plainest one, and save against the usual way, when a pretrained
network is fine-tuned on photographs? Same network (efficientnet-lite0, fresh weights: throughput does not depend on
them), batch, precision, augmentation, optimiser and number of workers; the pictures are noise. Contenders take turns,
each in a process of its own and after a warm-up; the median of the rounds is given, and of the ratios within a round.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.shared import alone, command, write_result
from coterie.backbones import build
from coterie.backbones.packages import LITE0
from coterie.config import FitSettings, HardwareSettings, TrainingSettings
from coterie.data.batches import ERASED, SMALLEST_CROP, Augmentation, training_batches
from coterie.data.splits import Split
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.progress import SILENT
from coterie.training.fabric import make_fabric
from coterie.training.loop import train
from coterie.training.process import configure_process

N_CLASSES, WARM_UP = 100, 3
MEAN, STD = (127.0,) * 3, (128.0,) * 3
# Without what the others do not have: a running average, mixup and clipping.
TRAINING = TrainingSettings(epochs=1, batch_size=64, optimizer="adamw", learning_rate=5e-4, weight_decay=0.05)


def network(form: ImagePreprocessing) -> nn.Module:
    """The same one for all."""
    return build(LITE0, N_CLASSES, form, seed=0)


def ours(split: Split, form: ImagePreprocessing, workers: int) -> float:
    """coterie's loop."""
    augmentation = Augmentation(0, True, fill=MEAN, photo=True)
    batches = training_batches(split, form, augmentation, batch_size=TRAINING.batch_size, seed=0, workers=workers)
    configure_process(HardwareSettings())
    net, fabric = network(form), make_fabric(HardwareSettings(precision="fp32"))
    started = time.perf_counter()
    train(fabric, net, batches, TRAINING, SILENT)
    return len(split) / (time.perf_counter() - started)


class Pictures(Dataset[dict[str, Any]]):
    """Augmented by torchvision one by one, as coterie does it, and normalised."""

    def __init__(self, split: Split, form: ImagePreprocessing) -> None:
        self.pixels, self.labels = split.samples.read(torch.arange(len(split))).permute(0, 3, 1, 2), split.labels_N
        fill = list(form.mean)
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop((form.height, form.width), SMALLEST_CROP),
                v2.TrivialAugmentWide(fill=fill),
                v2.RandomErasing(ERASED, value=fill),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([mean / 255 for mean in form.mean], [std / 255 for std in form.std]),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {"pixel_values": self.transform(self.pixels[row]), "labels": int(self.labels[row])}


def bare(split: Split, form: ImagePreprocessing, workers: int) -> float:
    """The plainest loop, with a DataLoader."""
    net = network(form).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-4, weight_decay=0.05, fused=True)
    loader = DataLoader(Pictures(split, form), TRAINING.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    started = time.perf_counter()
    for batch in loader:
        inputs = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(net(inputs), batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return len(split) / (time.perf_counter() - started)


class ForTrainer(nn.Module):
    """As transformers' Trainer wants a model: from named inputs to loss and logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Loss and logits."""
        logits = self.net(pixel_values)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def trainer(split: Split, form: ImagePreprocessing, workers: int) -> float:
    """transformers' Trainer."""
    import transformers

    with tempfile.TemporaryDirectory() as folder:
        options = transformers.TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=TRAINING.batch_size,
            learning_rate=5e-4,
            weight_decay=0.05,
            dataloader_num_workers=workers,
            dataloader_drop_last=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        made = transformers.Trainer(ForTrainer(network(form)), options, train_dataset=Pictures(split, form))
        started = time.perf_counter()
        made.train()
        return len(split) / (time.perf_counter() - started)


CONTENDERS: dict[str, Callable[[Split, ImagePreprocessing, int], float]] = {
    "coterie": ours,
    "bare PyTorch loop, DataLoader": bare,
    "transformers' Trainer": trainer,
}


def run_one(name: str, size: int, steps: int, workers: int) -> float:
    """Images per second of one contender's turn."""
    rng, form = np.random.default_rng(0), ImagePreprocessing(size, size, 3, MEAN, STD)
    for n_steps in (WARM_UP, steps):
        pixels = torch.from_numpy(rng.integers(0, 256, (n_steps * TRAINING.batch_size, size, size, 3), dtype=np.uint8))
        split = Split(MemorySamples(pixels), torch.from_numpy(rng.integers(N_CLASSES, size=len(pixels))))
        rate = CONTENDERS[name](split, form, workers)
    return rate


def main(size: int = 96, steps: int = 20, rounds: int = 3, workers: int = FitSettings().data.workers) -> None:
    """Take turns, and write the table.

    Args:
        size: side of the images in pixels.
        steps: that are timed.
        rounds: turns of each.
        workers: processes that augment.
    """
    rates: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in CONTENDERS:
            rates[name].append(alone(run_one, name, size, steps, workers))
            print(name, round(rates[name][-1], 1), flush=True)
    lines = ["| | images/s | coterie against it |", "|---|---|---|"]
    for name, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["coterie"], values, strict=True))
        lines.append(f"| {name} | {statistics.median(values):.1f} | {ratio:.2f} |")
    write_result(__file__, "\n".join(lines))


if __name__ == "__main__":
    command(main)
