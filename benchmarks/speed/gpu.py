"""Training throughput on a GPU: against the card's peak, a bare loop, and several trainings at once.

Questions: what share of the rate of a plain bf16 matrix product does coterie's loop reach with a large network, and
does it cost anything over the plainest loop? And of small networks, whose steps leave most of a card idle, how many
should be trained at once? The images are noise of CIFAR-100's size.
"""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from benchmarks.shared import command, write_result
from coterie.backbones import build
from coterie.backbones.flops import training_flops
from coterie.config import HardwareSettings, TrainingSettings
from coterie.data.batches import Augmentation, augment, training_batches
from coterie.data.splits import Split
from coterie.inputs import ImagePreprocessing, MemorySamples
from coterie.progress import SILENT
from coterie.training.fabric import make_fabric
from coterie.training.loop import train
from coterie.training.process import configure_process

BATCH, N_CLASSES, WARM_UP, ROUNDS = 128, 100, 20, 3
STEPS = {"wrn-28-10": 40, "convnet-32": 400}
AT_ONCE = (8,)
SECONDS_TOGETHER = 5.0
SECONDS_TO_START = 12
MATRIX = 8192


def noise(steps: int) -> Split:
    """Images and classes for so many steps."""
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, size=(steps * BATCH, 32, 32, 3), dtype=np.uint8))
    return Split(MemorySamples(pixels), torch.from_numpy(rng.integers(N_CLASSES, size=len(pixels))))


def coterie_steps(backbone: str, split: Split, form: ImagePreprocessing) -> None:
    """Coterie's loop over the split, once."""
    batches = training_batches(split, form, Augmentation(4, True), batch_size=BATCH, seed=0, workers=0)
    settings = TrainingSettings(epochs=1, batch_size=BATCH)
    configure_process(HardwareSettings())
    train(make_fabric(HardwareSettings()), build(backbone, N_CLASSES, form, seed=0), batches, settings, SILENT)


def bare_steps(backbone: str, split: Split, form: ImagePreprocessing) -> None:
    """The plainest loop over the split, with all data on the card: no settings, no meter, no checks."""
    net = build(backbone, N_CLASSES, form, seed=0).to(memory_format=torch.channels_last).cuda().train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
    pixels, labels = split.samples.read(torch.arange(len(split))).cuda(), split.labels_N.cuda()
    generator = torch.Generator().manual_seed(0)
    for rows in torch.randperm(len(labels), generator=generator).cuda().split(BATCH):
        inputs = form(augment(pixels[rows], Augmentation(4, True), generator))
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(net(inputs), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def rates(backbone: str) -> Iterator[tuple[float, float]]:
    """Images per second of coterie's loop and of the bare one, turn by turn."""
    split = noise(STEPS[backbone])
    form = ImagePreprocessing.measure(split.samples)
    for loop in (coterie_steps, bare_steps):
        loop(backbone, noise(WARM_UP), form)
    for _ in range(ROUNDS):
        found = []
        for loop in (coterie_steps, bare_steps):
            torch.cuda.synchronize()
            started = time.perf_counter()
            loop(backbone, split, form)
            torch.cuda.synchronize()
            found.append(len(split) / (time.perf_counter() - started))
        yield found[0], found[1]


def peak() -> float:
    """Operations per second of a product of two bf16 matrices."""
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    for _ in range(12):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        a @ b
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return 2 * MATRIX**3 / statistics.median(seconds[2:])


def one_of_several(start: float) -> float:
    """Images per second of one training: warm up, wait for a common moment, train for some seconds."""
    split = noise(WARM_UP * 5)
    form = ImagePreprocessing.measure(split.samples)
    coterie_steps("convnet-32", split, form)
    time.sleep(max(0.0, start - time.time()))
    started, images = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS_TOGETHER:
        coterie_steps("convnet-32", split, form)
        images += len(split)
    return images / (time.perf_counter() - started)


def together(n: int) -> float:
    """Images per second of so many trainings at once, each a process, together."""
    with ProcessPoolExecutor(n, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(one_of_several, [time.time() + SECONDS_TO_START] * n))


def main() -> None:
    """Measure, and write the tables."""
    top = peak()
    product = f"A product of two {MATRIX} x {MATRIX} bf16 matrices: {top / 1e12:.0f} TFLOP/s."
    lines = [
        f"{torch.cuda.get_device_name()}. {product}",
        "",
        "| network | images/s | bare loop | coterie against it | TFLOP/s | of the matrix product's |",
        "|---" * 6 + "|",
    ]
    for backbone in STEPS:
        found = list(rates(backbone))
        ours, bare = (statistics.median(values) for values in zip(*found, strict=True))
        ratio = statistics.median(a / b for a, b in found)
        form = ImagePreprocessing(32, 32, 3, mean=(0.0,) * 3, std=(1.0,) * 3)
        rate = ours * training_flops(build(backbone, N_CLASSES, form, seed=0), torch.zeros(1, 3, 32, 32))
        lines.append(f"| {backbone} | {ours:.0f} | {bare:.0f} | {ratio:.2f} | {rate / 1e12:.1f} | {rate / top:.1%} |")
        print(lines[-1], flush=True)
    lines += ["", "| convnet-32, trainings at once | images/s, of all together |", "|---|---|"]
    for n in AT_ONCE:
        lines.append(f"| {n} | {together(n):.0f} |")
        print(lines[-1], flush=True)
    write_result(__file__, "\n".join(lines))


if __name__ == "__main__":
    command(main)
