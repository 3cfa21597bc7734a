"""Training in bf16 on a CPU: what do the gradients of depthwise convolutions cost?

Question: how many images a second does coterie's step train, of networks with depthwise convolutions and one without,
in fp32, in bf16 as torch does it, and in bf16 with the gradients of depthwise convolutions in fp32, as coterie does it?
On a CPU with AVX-512 and bf16; one thread. Contenders take turns, each in a process of its own and after a warm-up; the
median over rounds is given, and of the ratios within a round. The inputs are noise.
"""

import statistics
import time
from contextlib import nullcontext

import torch

from benchmarks.shared import alone, command, markdown_table, write_result
from coterie.backbones import build
from coterie.config import HardwareSettings, TrainingSettings
from coterie.inputs import ImagePreprocessing
from coterie.training.depthwise import depthwise_gradients
from coterie.training.fabric import make_fabric
from coterie.training.loop import make_optimizer, smoothed_cross_entropy, training_step
from coterie.training.process import configure_process

NETWORKS = ("timm:tf_efficientnet_lite0", "timm:mobilenetv3_large_100", "timm:convnext_atto", "timm:resnet18")
FP32, AS_TORCH, OURS = "fp32", "bf16", "bf16, gradients in fp32"
WARM_UP = 2


def rate(name: str, contender: str, size: int, batch: int, steps: int) -> float:
    """Images per second, in this process."""
    hardware = HardwareSettings(accelerator="cpu", precision="fp32" if contender == FP32 else "bf16", threads=1)
    configure_process(hardware)
    form = ImagePreprocessing(size, size, 3, mean=(127.0,) * 3, std=(128.0,) * 3)
    network = build(name, 100, form, seed=0).train().to(memory_format=torch.channels_last)
    settings = TrainingSettings(optimizer="adamw", learning_rate=5e-4)
    fabric, loss = make_fabric(hardware), smoothed_cross_entropy(settings)
    model, optimizer = fabric.setup(network, make_optimizer(network, settings))
    inputs = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(100, (batch,))
    with depthwise_gradients(fabric, network) if contender == OURS else nullcontext():
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                started = time.perf_counter()
            training_step(fabric, model, optimizer, settings, loss, inputs, labels)
    return batch * steps / (time.perf_counter() - started)


def main(size: int = 96, batch: int = 64, steps: int = 6, rounds: int = 3) -> None:
    """Take turns, and write the table.

    Args:
        size: side of the images in pixels.
        batch: images of a step.
        steps: that are timed.
        rounds: turns of each.
    """
    contenders, rows = (FP32, AS_TORCH, OURS), []
    for name in NETWORKS:
        rates: dict[str, list[float]] = {contender: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                rates[contender].append(alone(rate, name, contender, size, batch, steps))
                print(name, contender, round(rates[contender][-1], 1), flush=True)
        ratios = {
            other: statistics.median(a / b for a, b in zip(rates[OURS], rates[other], strict=True))
            for other in (FP32, AS_TORCH)
        }
        rows.append([name, *(f"{statistics.median(rates[each]):.1f}" for each in contenders)])
        rows[-1] += [f"{ratio:.2f}" for ratio in ratios.values()]
    header = ["network", *(f"{each}, images/s" for each in contenders), "ours against fp32", "against bf16"]
    write_result(__file__, markdown_table(header, rows))


if __name__ == "__main__":
    command(main)
