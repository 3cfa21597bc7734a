"""Samples -> batches on the device: one way for samples in memory, one for images that workers decode.

Both crop and mirror images at random and normalise. In memory a whole batch is augmented at once, by index arithmetic
on uint8; from files, each image by torchvision's transforms in the workers. A batch depends on the seed, the epoch and
its place in it alone, not on the batches before it or on the number of workers, so that training can start again at
any step.
"""

from __future__ import annotations

import math
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from torch.utils.data import DataLoader, Dataset, Sampler
from typing_extensions import override

from coterie.config import DataSettings
from coterie.data.splits import Split, Splits
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, Preprocessing, Samples
from coterie.system.load import n_cores
from coterie.system.ranks import Ranks

# Of photographs: the least and most of an image's area that a crop takes, and how many get a rectangle erased.
SMALLEST_CROP = (0.35, 1.0)
ERASED = 0.1
# Batches whose samples change places so that each batch has such of like length. More would save little more, and
# leave less to chance.
POOLED_BATCHES = 16
# Where Linux keeps what processes share.
SHARED_MEMORY = Path("/dev/shm")

T = TypeVar("T")


@dataclass(frozen=True)
class Augmentation:
    """What is done to images in training; other samples get ``NO_AUGMENTATION``.

    Random crop out of an image padded by ``crop_padding`` pixels of zeros; random horizontal flip; a square hole of
    ``cutout`` pixels, centred anywhere and filled with ``fill``, the mean per channel (DeVries and Taylor 2017, arXiv
    1708.04552). ``photo``: in place of the padded crop and the hole, a random resized crop, TrivialAugment (Mueller
    and Hutter 2021, arXiv 2103.10158) and a random rectangle that is erased.
    """

    crop_padding: int
    flip: bool
    cutout: int = 0
    fill: tuple[float, ...] = (0.0,)
    photo: bool = False


NO_AUGMENTATION = Augmentation(crop_padding=0, flip=False)


def augmentation_of(data: DataSettings, splits: Splits) -> Augmentation:
    """The augmentation that was asked for, or that suits the data; none but for images."""
    if not isinstance(splits.preprocessing, ImagePreprocessing):
        return NO_AUGMENTATION
    flip = splits.flip if data.flip is None else data.flip
    fill = splits.preprocessing.mean
    return Augmentation(data.crop_padding, flip, data.cutout, fill, photo=data.augment == "photo")


class Batches(ABC):
    """Shuffled, augmented training batches: inputs as the preprocessing makes them (B, ...), labels int64 (B,)."""

    def __init__(
        self, split: Split, preprocessing: Preprocessing, batch_size: int, seed: int, *, balanced: bool
    ) -> None:
        self.split = split
        self.preprocessing = preprocessing
        self.batch_size = min(batch_size, len(split))
        self.seed = seed
        self.balanced = balanced
        self.ranks = Ranks()

    def share_out(self, ranks: Ranks) -> None:
        """Yield one rank's part of each batch. The batches, and what their augmentation is drawn from, stay the same.

        Raises:
            DataError: there are fewer samples than ranks.
        """
        self.ranks = ranks
        # Ranks take equally many samples, as the mean of their gradients assumes.
        self.batch_size -= self.batch_size % ranks.world
        if self.batch_size == 0:
            raise DataError(f"{len(self.split)} training samples cannot be shared out over {ranks.world} ranks")

    def __len__(self) -> int:
        """Steps per epoch. What is left after the last full batch comes up in another epoch."""
        return len(self.split) // self.batch_size

    @abstractmethod
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch, on the device, from the ``first`` on."""

    def draws(self, epoch: int, first: int) -> Iterator[tuple[Tensor, torch.Generator]]:
        """The rows of each batch of an epoch from the ``first`` on, and what its augmentation is drawn from."""
        generator = self._generator(epoch, 0)
        if self.balanced:
            order = balanced_rows(self.split.labels_N, generator)
        else:
            order = torch.randperm(len(self.split), generator=generator)
        order = order[: len(self) * self.batch_size]
        if self.preprocessing.by_length:
            order = alike_in_length(order, self.split.samples.lengths(), self.batch_size, generator)
        batches = order.split(self.batch_size)
        for number, rows in enumerate(batches[first:], start=first):
            yield rows, self._generator(epoch, number + 1)

    def _generator(self, epoch: int, number: int) -> torch.Generator:
        sequence = np.random.SeedSequence((self.seed, epoch, number))  # no two of these are related
        return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1)))


class MemoryBatches(Batches):
    """From samples in memory, which move to the device with the first batch and stay there."""

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        *,
        balanced: bool,
    ) -> None:
        super().__init__(split, preprocessing, batch_size, seed, balanced=balanced)
        self.augmentation = augmentation
        self.samples = split.samples

    @override
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        # Later epochs find them there.
        self.samples = self.samples.to(device)
        for rows, generator in self.draws(number, first):
            batch = augment(self.samples.read(rows).to(device), self.augmentation, generator)
            batch = cut_out(batch, self.augmentation.cutout, self.augmentation.fill, generator)
            # Every rank augments the whole batch and takes its part afterwards: the draws do not depend on how many
            # ranks there are.
            part = self.ranks.part
            yield self.preprocessing(batch[part]), self.split.labels_N[rows[part]].to(device)


class StreamedBatches(Batches):
    """From images that worker processes decode, augment and collate."""

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        workers: int,
        *,
        balanced: bool,
    ) -> None:
        super().__init__(split, preprocessing, batch_size, seed, balanced=balanced)
        self.dataset = _AugmentedDataset(split, augmentation)
        # More than there are cores would take turns; torch warns of them.
        self.workers = min(workers, n_cores())

    @override
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            self.dataset,
            batch_sampler=_SeededBatches(self, number, first),
            num_workers=self.workers if self._fits_shared_memory() else 0,
            # Copies from pinned memory overlap with computing.
            pin_memory=device.type == "cuda",
        )
        for pixels, labels in _named_faults(loader):
            yield self.preprocessing(pixels.to(device, non_blocking=True)), labels.to(device, non_blocking=True)

    def _fits_shared_memory(self) -> bool:
        """Whether there is room for the batches that workers pass on; containers often have 64 MiB. Without workers
        batches are the same, only slower.
        """
        if not SHARED_MEMORY.is_dir():
            return True
        ahead = 2 * self.workers + 1  # two for each worker, and the one in use
        return ahead * self.batch_size * math.prod(self.split.samples.shape) < shutil.disk_usage(SHARED_MEMORY).free


def _named_faults(loader: Iterable[T]) -> Iterator[T]:
    """What a loader yields.

    Raises:
        DataError: its workers run out of shared memory, which is the machine's.
    """
    batches = iter(loader)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "shared memory" not in str(error) and "Bus error" not in str(error):
                raise
            raise DataError(
                f"{SHARED_MEMORY} is full, by which workers pass images on: --data.workers 0 does without it, and "
                "containers get more by --shm-size 1g"
            ) from None
        yield batch


def training_batches(
    split: Split,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    batch_size: int,
    seed: int,
    workers: int,
    balanced: bool = False,
) -> Batches:
    """The way that suits where the samples are; ``balanced``: an epoch has about as many samples of each class."""
    # Each photograph is changed by itself, which workers do beside the network.
    if split.samples.streamed or augmentation.photo:
        return StreamedBatches(split, preprocessing, augmentation, batch_size, seed, workers, balanced=balanced)
    return MemoryBatches(split, preprocessing, augmentation, batch_size, seed, balanced=balanced)


def balanced_rows(labels_N: Tensor, generator: torch.Generator) -> Tensor:
    """As many rows as there are: of each a class is drawn first, of those there are, then a sample of it."""
    classes, count_C = torch.unique(labels_N, return_counts=True)
    by_class = torch.argsort(labels_N, stable=True)
    class_N = torch.randint(len(classes), (len(labels_N),), generator=generator)
    # In double precision: a float32 just below 1, times the count, may round up to the count.
    place_N = (torch.rand(len(labels_N), generator=generator, dtype=torch.float64) * count_C[class_N]).long()
    return by_class[(count_C.cumsum(0) - count_C)[class_N] + place_N]


def alike_in_length(order: Tensor, length_N: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """The rows of full batches in another order: samples of like length share a batch, and the batches are shuffled."""
    pools = order.split(POOLED_BATCHES * batch_size)
    batches = torch.cat([pool[length_N[pool].argsort(stable=True)] for pool in pools]).view(-1, batch_size)
    return batches[torch.randperm(len(batches), generator=generator)].flatten()


def plain_batches(
    samples: Samples, preprocessing: Preprocessing, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """All samples in order, not augmented, as inputs on the device."""
    for rows in torch.arange(len(samples)).split(batch_size):
        yield preprocessing(samples.read(rows).to(device))


def augment(pixels_BHWC: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop and mirror each image of a uint8 batch at random, keeping its shape; without either, any batch as it is.

    The draws come from ``generator``, on the CPU, so that every device sees the same ones.
    """
    n, device = len(pixels_BHWC), pixels_BHWC.device
    padding = augmentation.crop_padding
    if padding:
        height, width, channels = pixels_BHWC.shape[1:]
        padded = F.pad(pixels_BHWC, (0, 0, padding, padding, padding, padding))
        batch, row, column, channel = padded.stride()
        # Every crop of every image as a view: (B, 2p + 1, 2p + 1, H, W, channels). Indexing it copies the chosen ones.
        crops = padded.as_strided(
            (n, 2 * padding + 1, 2 * padding + 1, height, width, channels), (batch, row, column, row, column, channel)
        )
        top, left = torch.randint(2 * padding + 1, (2, n), generator=generator).to(device)
        pixels_BHWC = crops[torch.arange(n, device=device), top, left]
    if augmentation.flip:
        mirrored = torch.rand(n, generator=generator).to(device) < 0.5
        pixels_BHWC = torch.where(mirrored[:, None, None, None], pixels_BHWC.flip(2), pixels_BHWC)
    return pixels_BHWC


def cut_out(pixels_BHWC: Tensor, side: int, fill: tuple[float, ...], generator: torch.Generator | None) -> Tensor:
    """Fill a square of each image of a uint8 batch; its centre is anywhere, so that it may hang over the border.

    ``generator`` as in ``augment``; None draws from torch's own, which differs from worker to worker.
    """
    if side == 0:
        return pixels_BHWC
    n, height, width, _ = pixels_BHWC.shape
    device = pixels_BHWC.device
    inside = []
    for length in (height, width):
        first = torch.randint(length, (n, 1), generator=generator).to(device) - side // 2
        place = torch.arange(length, device=device)
        inside.append((place >= first) & (place < first + side))
    hole = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    filling = torch.tensor(fill, device=device).round().to(torch.uint8)
    return torch.where(hole, filling, pixels_BHWC)


class _AugmentedDataset(Dataset[tuple[Tensor, Tensor]]):
    """One image at a time, through torchvision.transforms.v2; runs in the workers."""

    def __init__(self, split: Split, augmentation: Augmentation) -> None:
        from torchvision.transforms import v2

        height, width, _ = split.samples.shape
        steps: list[object] = []
        if augmentation.photo:
            fill = list(augmentation.fill)
            steps += [v2.RandomResizedCrop((height, width), SMALLEST_CROP), v2.TrivialAugmentWide(fill=fill)]
            steps.append(v2.RandomErasing(ERASED, value=fill))
        elif augmentation.crop_padding:
            steps.append(v2.RandomCrop((height, width), padding=augmentation.crop_padding))
        if augmentation.flip:
            steps.append(v2.RandomHorizontalFlip())
        self.split = split
        self.cutout = 0 if augmentation.photo else augmentation.cutout
        self.fill = augmentation.fill
        self.transform = v2.Compose(steps) if steps else v2.Identity()

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, draw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        row, seed = draw
        pixels_HWC = self.split.samples.read(torch.tensor([row]))[0]
        with torch.random.fork_rng(devices=[]):  # torchvision's transforms draw from torch's own generator
            torch.default_generator.manual_seed(seed)
            image = self.transform(pixels_HWC.permute(2, 0, 1)).permute(1, 2, 0)
            return cut_out(image.unsqueeze(0), self.cutout, self.fill, None)[0], self.split.labels_N[row]


class _SeededBatches(Sampler[list[tuple[int, int]]]):
    """The batches of an epoch: each image's row, and the seed of its augmentation."""

    def __init__(self, batches: Batches, epoch: int, first: int) -> None:
        self.batches = batches
        self.epoch = epoch
        self.first = first

    def __len__(self) -> int:
        return len(self.batches) - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for rows, generator in self.batches.draws(self.epoch, self.first):
            # A seed an image, so that it does not matter which worker decodes it.
            seeds = torch.randint(2**62, (len(rows),), generator=generator)
            yield list(zip(rows.tolist(), seeds.tolist(), strict=True))[self.batches.ranks.part]
