"""Does the paper's recipe (WRN-28-10) really start here: twenty steps with a finite, falling loss? And how long would
the whole of it take?
"""

import sys
import time

import numpy as np

import record
from coterie.backbones import build
from coterie.data import load
from coterie.pipeline.fit import batches_of
from coterie.studies.reproduction.study import NUMBERS_OF_CLUSTERS, recipe
from coterie.training.fabric import configure_process, make_fabric
from coterie.training.loop import make_optimizer, smoothed_cross_entropy, training_step

STEPS = 20


def main(source: str) -> None:
    """Take the first steps of the base's training."""
    settings = recipe("paper")
    settings = settings.model_copy(update={"data": settings.data.with_source(source)})
    splits = load(settings.data, 0)
    configure_process(settings.hardware)
    fabric = make_fabric(settings.hardware)
    network = build(settings.backbone, len(splits.labels), splits.preprocessing, 0)
    model, optimizer = fabric.setup(network.train(), make_optimizer(network, settings.base))
    batches = batches_of(settings, splits, splits.train, settings.base, 0)
    loss_of, losses, started = smoothed_cross_entropy(settings.base), [], time.perf_counter()
    for (inputs, labels), _ in zip(batches.epoch(0, fabric.device), range(STEPS), strict=False):
        loss, _accuracy = training_step(fabric, model, optimizer, settings.base, loss_of, inputs, labels)
        losses.append(loss.item())
        print(f"step {len(losses)}: loss {losses[-1]:.3f}", flush=True)
    rate = STEPS * settings.base.batch_size / (time.perf_counter() - started)
    first, last = np.mean(losses[:5]), np.mean(losses[-5:])
    if not (np.isfinite(losses).all() and last < first):
        sys.exit(f"the loss does not fall: {losses}")
    epochs = settings.base.epochs + len(NUMBERS_OF_CLUSTERS) * settings.specialist.epochs
    days = epochs * len(splits.train) / rate / 86400
    record.write(
        __file__,
        f"{STEPS} steps of {settings.base.batch_size} images: loss {first:.3f} (mean of the first five) to {last:.3f} "
        f"(of the last five), {rate:.0f} images/s on {fabric.device}, {fabric._precision.precision}. One seed without "
        f"controls, {epochs} epochs, would take {days:.1f} days here.\n\nAll losses: "
        f"{', '.join(f'{loss:.3f}' for loss in losses)}.",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/gains/paper_start.py SOURCE")
    main(sys.argv[1])
