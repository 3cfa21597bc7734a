import tempfile

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from coterie.engine.payload import SharedPayload
from helpers import make_splits


def through_a_file(value):
    with tempfile.TemporaryFile() as file:
        SharedPayload.pack(value).write(file)
        return SharedPayload.map_from(file.fileno()).unpack()


@given(st.lists(hnp.arrays(st.sampled_from([np.uint8, np.float32, np.int64]), hnp.array_shapes(min_side=0))))
def test_arrays_arrive_as_they_were(arrays) -> None:
    for mine, theirs in zip(through_a_file(arrays), arrays, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


def test_the_memory_of_arrays_is_not_copied_into_the_pickle() -> None:
    splits = make_splits()
    payload = SharedPayload.pack(splits)
    pixels = splits.train.samples.values_N
    assert len(payload.pickled) < 5_000
    assert any(np.shares_memory(array, pixels.numpy()) for array in payload.arrays)
    assert torch.equal(payload.unpack().train.samples.values_N, pixels)


def test_a_network_keeps_its_bits_and_its_memory_order() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).to(
        memory_format=torch.channels_last
    )
    network[2].to(torch.bfloat16)
    arrived = through_a_file({"network": network})["network"]
    for mine, theirs in zip(arrived.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.stride() == theirs.stride()
    arrived[0].weight.data.add_(1)  # a worker may train what it got: its pages are its own
