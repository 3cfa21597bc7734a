from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from coterie.data import batches
from coterie.data.batches import (
    Augmentation,
    MemoryBatches,
    StreamedBatches,
    alike_in_length,
    augment,
    cut_out,
    plain_batches,
    training_batches,
)
from coterie.data.splits import Split
from coterie.errors import DataError
from coterie.inputs import ImagePreprocessing, MemorySamples, Samples

CPU = torch.device("cpu")


class Streamed(Samples):
    """Images that are not in memory, as far as the batches know."""

    streamed = True

    def __init__(self, memory: MemorySamples) -> None:
        self.memory = memory

    def __len__(self) -> int:
        return len(self.memory)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.memory.shape

    def read(self, rows_B: torch.Tensor) -> torch.Tensor:
        return self.memory.read(rows_B)

    def take(self, rows: torch.Tensor) -> "Streamed":
        return Streamed(self.memory.take(rows))

    def show(self, row: int) -> str:
        return self.memory.show(row)


def numbered(n: int, height: int = 6, width: int = 5, channels: int = 3) -> MemorySamples:
    pixels = np.random.default_rng(0).integers(1, 256, size=(n, height, width, channels))
    return MemorySamples(torch.from_numpy(pixels.astype(np.uint8)))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 3), st.booleans(), st.sampled_from([1, 3]), st.integers(0, 99))
def test_each_augmented_image_is_a_crop_of_its_own_padded_or_mirrored_self(
    n: int, padding: int, flip: bool, channels: int, seed: int
) -> None:
    pixels = numbered(n, channels=channels).values_N
    augmented = augment(pixels, Augmentation(padding, flip), torch.Generator().manual_seed(seed))
    assert augmented.shape == pixels.shape
    for before, after in zip(pixels.numpy(), augmented.numpy(), strict=True):
        padded = np.pad(before, ((padding, padding), (padding, padding), (0, 0)))
        crops = [padded[i : i + 6, j : j + 5] for i in range(2 * padding + 1) for j in range(2 * padding + 1)]
        mirrored = [crop[:, ::-1] for crop in crops] if flip else []
        assert any(np.array_equal(after, crop) for crop in [*crops, *mirrored])


def test_all_crops_and_both_mirrors_come_up() -> None:
    pixels = numbered(1).values_N.repeat(2000, 1, 1, 1)
    augmented = augment(pixels, Augmentation(1, True), torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in augmented}) == 9 * 2


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 99))
def test_a_cutout_fills_one_square_and_touches_nothing_else(side: int, seed: int) -> None:
    pixels = numbered(3).values_N
    cut = cut_out(pixels, side, (0.2, 0.2, 0.2), torch.Generator().manual_seed(seed))
    for before, after in zip(pixels.numpy(), cut.numpy(), strict=True):
        hole = (after == 0).all(axis=2)
        rows, columns = hole.any(axis=1), hole.any(axis=0)
        np.testing.assert_array_equal(hole, rows[:, None] & columns[None, :])
        for line in (np.flatnonzero(rows), np.flatnonzero(columns)):
            assert 1 <= len(line) <= side
            assert len(line) == line[-1] - line[0] + 1
        np.testing.assert_array_equal(after[~hole], before[~hole])


def test_cutouts_reach_every_pixel_alike_in_the_middle() -> None:
    pixels = torch.full((4000, 9, 9, 1), 200, dtype=torch.uint8)
    share = (cut_out(pixels, 3, (0.0,), torch.Generator().manual_seed(0)) == 0).float().mean(0).squeeze()
    torch.testing.assert_close(share[1:-1, 1:-1], torch.full((7, 7), 9 / 81), atol=0.03, rtol=0)


@pytest.mark.parametrize("way", ["memory", "streamed"])
def test_both_ways_cut_out(way: str) -> None:
    memory = MemorySamples(torch.full((8, 6, 5, 1), 250, dtype=torch.uint8))
    split = Split(memory if way == "memory" else Streamed(memory), torch.arange(8))
    preprocessing = ImagePreprocessing(6, 5, 1, (10.0,), (1.0,))
    batches = training_batches(
        split, preprocessing, Augmentation(0, False, 2, (10.0,)), batch_size=8, seed=0, workers=0
    )
    inputs, _ = next(iter(batches.epoch(0, CPU)))
    assert all(1 <= int((image == 0).sum()) <= 4 for image in inputs)


def test_nothing_asked_is_nothing_done() -> None:
    pixels = numbered(4).values_N
    assert torch.equal(augment(pixels, Augmentation(0, False), torch.Generator()), pixels)


@pytest.mark.parametrize("way", ["memory", "streamed"])
def test_an_epoch_shows_each_image_once_with_its_label(way: str) -> None:
    memory = numbered(12)
    split = Split(memory if way == "memory" else Streamed(memory), torch.arange(12))
    preprocessing = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)
    batches = training_batches(split, preprocessing, Augmentation(0, False), batch_size=4, seed=1, workers=0)
    assert isinstance(batches, MemoryBatches if way == "memory" else StreamedBatches)
    assert len(batches) == 3
    seen = []
    for inputs, labels in batches.epoch(0, CPU):
        assert inputs.shape == (4, 3, 6, 5)
        assert inputs.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(inputs.permute(0, 2, 3, 1).to(torch.uint8), memory.values_N[labels])
        seen += labels.tolist()
    assert sorted(seen) == list(range(12))


def test_both_ways_draw_the_same_rows_and_epochs_differ() -> None:
    memory = numbered(20)
    preprocessing = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)
    orders = []
    for images, epoch in ((memory, 0), (Streamed(memory), 0), (memory, 1), (memory, 0)):
        split = Split(images, torch.arange(20))
        batches = training_batches(split, preprocessing, Augmentation(2, True), batch_size=5, seed=3, workers=0)
        orders.append([label for _, labels in batches.epoch(epoch, CPU) for label in labels.tolist()])
    assert orders[0] == orders[1] == orders[3]
    assert orders[0] != orders[2]


def test_a_split_smaller_than_a_batch_is_one_batch() -> None:
    split = Split(numbered(3), torch.arange(3))
    preprocessing = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)
    batches = training_batches(split, preprocessing, Augmentation(1, True), batch_size=128, seed=0, workers=0)
    assert len(batches) == 1
    assert len(next(iter(batches.epoch(0, CPU)))[1]) == 3


@pytest.mark.parametrize(("way", "workers"), [("memory", 0), ("streamed", 0), ("streamed", 1), ("streamed", 2)])
def test_an_epoch_that_begins_in_the_middle_goes_on_with_the_same_batches(way: str, workers: int) -> None:
    memory = numbered(20)
    split = Split(memory if way == "memory" else Streamed(memory), torch.arange(20))
    preprocessing = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)

    def batches(workers: int):
        return training_batches(split, preprocessing, Augmentation(2, True, 2), batch_size=4, seed=3, workers=workers)

    whole = list(batches(0).epoch(1, CPU))
    for first in (0, 3, 5):
        torch.manual_seed(first)  # torch's own generator must not matter, nor be touched
        state = torch.get_rng_state()
        rest = list(batches(workers).epoch(1, CPU, first))
        assert len(rest) == 5 - first
        for (mine, my_labels), (theirs, their_labels) in zip(rest, whole[first:], strict=True):
            assert torch.equal(mine, theirs)
            assert torch.equal(my_labels, their_labels)
        if way == "memory":
            assert torch.equal(torch.get_rng_state(), state)


def test_workers_decode_in_their_own_processes() -> None:
    split = Split(Streamed(numbered(8)), torch.arange(8))
    preprocessing = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)
    batches = training_batches(split, preprocessing, Augmentation(1, True), batch_size=4, seed=0, workers=1)
    assert sorted(label for _, labels in batches.epoch(0, CPU) for label in labels.tolist()) == list(range(8))


@settings(max_examples=50)
@given(st.integers(1, 7), st.integers(1, 60), st.integers(0, 10_000))
def test_batches_of_like_length_hold_each_row_once_and_are_padded_less(size: int, n_batches: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(size * n_batches, generator=generator)
    length_N = torch.randint(1, 40, (len(order),), generator=generator)
    found = alike_in_length(order, length_N, size, generator)
    assert sorted(found.tolist()) == sorted(order.tolist())

    def longest(rows: torch.Tensor) -> int:
        return int(length_N[rows].view(-1, size).amax(1).sum())

    assert longest(found) <= longest(order)


def test_the_batches_of_like_length_come_in_any_order() -> None:
    length_N = torch.arange(64)
    found = alike_in_length(torch.arange(64), length_N, 4, torch.Generator().manual_seed(0))
    firsts = found.view(-1, 4)[:, 0]
    assert firsts.tolist() != sorted(firsts.tolist())


def test_where_shared_memory_has_no_room_batches_are_the_same_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(Streamed(numbered(8)), torch.arange(8))
    preprocessing = ImagePreprocessing(6, 5, 3, (0.0,) * 3, (1.0,) * 3)

    def epoch(free: int, workers: int) -> list[torch.Tensor]:
        monkeypatch.setattr(batches.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        monkeypatch.setattr(batches, "SHARED_MEMORY", Path("/"))
        monkeypatch.setattr(batches, "DataLoader", partial(loader, seen))
        made = training_batches(split, preprocessing, Augmentation(1, True), batch_size=4, seed=0, workers=workers)
        return [inputs for inputs, _ in made.epoch(0, CPU)]

    seen: list[int] = []
    assert all(map(torch.equal, epoch(10**9, 1), epoch(1000, 1)))
    assert seen == [1, 0]


def loader(seen: list[int], *arguments: object, num_workers: int, **options: object) -> object:
    seen.append(num_workers)
    return DataLoader(*arguments, num_workers=num_workers, **options)


def fail(_: int) -> None:
    raise RuntimeError("another")


def test_workers_that_run_out_of_shared_memory_are_explained() -> None:
    def full() -> Iterator[int]:
        yield 1
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    found = batches._named_faults(full())
    assert next(found) == 1
    with pytest.raises(DataError, match=r"is full, by which workers.*--data\.workers 0"):
        next(found)
    with pytest.raises(RuntimeError, match="another"):
        next(batches._named_faults(map(fail, [0])))


def test_plain_batches_are_all_images_in_order() -> None:
    memory = numbered(7)
    preprocessing = ImagePreprocessing(6, 5, 3, (10.0, 20.0, 30.0), (2.0, 4.0, 5.0))
    inputs = torch.cat(list(plain_batches(memory, preprocessing, 3, CPU)))
    expected = (memory.values_N.float() - torch.tensor([10.0, 20.0, 30.0])) / torch.tensor([2.0, 4.0, 5.0])
    torch.testing.assert_close(inputs, expected.permute(0, 3, 1, 2))


def test_photographs_are_changed_one_by_one_whatever_the_workers_and_the_first_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (12, 16, 16, 3), dtype=torch.uint8, generator=generator)
    split = Split(MemorySamples(pixels), torch.arange(12) % 3)
    form = ImagePreprocessing.measure(split.samples)
    photo = Augmentation(4, True, fill=form.mean, photo=True)

    def epoch(workers: int = 0, first: int = 0, seed: int = 1) -> list[torch.Tensor]:
        batches = training_batches(split, form, photo, batch_size=4, seed=seed, workers=workers)
        return [inputs for inputs, _ in batches.epoch(0, torch.device("cpu"), first)]

    one = epoch()
    assert [tuple(inputs.shape) for inputs in one] == [(4, 3, 16, 16)] * 3
    assert all(map(torch.equal, one, epoch()))
    assert all(map(torch.equal, one[1:], epoch(first=1)))
    assert not any(map(torch.equal, one, epoch(seed=2)))
    assert all(map(torch.equal, one, epoch(workers=1)))
