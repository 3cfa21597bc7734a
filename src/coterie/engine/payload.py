"""What tasks share, as bytes that many processes can read in place: a pickle, and the memory of its arrays beside it.

A pickle runs code, so it is read only by processes that the writer started, of the same version.
"""

from __future__ import annotations

import io
import mmap
import pickle
import warnings
from dataclasses import dataclass
from types import FunctionType
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from coterie.errors import EngineError

# Of arrays in the file: a cache line, which is also what vector instructions want at most.
ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class SharedPayload:
    """A pickle, and the arrays (uint8, one dimension) that it refers to by their order."""

    pickled: bytes
    arrays: list[NDArray[np.uint8]]

    @classmethod
    def pack(cls, value: Any) -> SharedPayload:
        """Pickle a value; the memory of its arrays and plain CPU tensors is referred to, not copied.

        Raises:
            EngineError: it holds something that is defined in ``__main__``, which other processes do not have.
        """
        stream, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        _Pickler(stream, protocol=5, buffer_callback=buffers.append).dump(value)
        return cls(stream.getvalue(), [np.frombuffer(buffer.raw(), np.uint8) for buffer in buffers])

    def unpack(self) -> Any:
        """The value again. Its arrays are those of the payload: whoever gets it does not write to them."""
        return pickle.loads(self.pickled, buffers=self.arrays)

    def write(self, file: IO[bytes]) -> None:
        """Write to a file that ``map_from`` reads."""
        places, end = [], 0
        for array in self.arrays:
            start = -(-end // ALIGNMENT) * ALIGNMENT
            end = start + array.nbytes
            places.append((start, array.nbytes))
        head = pickle.dumps((self.pickled, places))
        file.write(len(head).to_bytes(8, "little") + head)
        begin = _body(len(head))
        for (start, _), array in zip(places, self.arrays, strict=True):
            file.seek(begin + start)
            file.write(array.data)
        # The last arrays may be empty, and a file of no bytes cannot be mapped.
        file.truncate(max(begin + end, 1))
        file.flush()

    @classmethod
    def map_from(cls, descriptor: int) -> SharedPayload:
        """The payload in an open file. Its pages are shared by all processes that map it; one that is written to is
        copied first.
        """
        pages = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        length = int.from_bytes(pages[:8], "little")
        pickled, places = pickle.loads(pages[8 : 8 + length])
        begin = _body(length)
        return cls(pickled, [np.frombuffer(pages, np.uint8, size, begin + start) for start, size in places])


def _body(head: int) -> int:
    return -(-(8 + head) // ALIGNMENT) * ALIGNMENT


class _Pickler(pickle.Pickler):
    """Sends plain tensors as arrays, whose memory pickle can leave where it is."""

    @override
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type | FunctionType) and value.__module__ == "__main__":
            raise EngineError(
                f"{value.__qualname__} is defined in a notebook or script, where other processes cannot find it; move "
                "it to a module that can be imported"
            )
        # Others, weights in channels_last order among them, take torch's way, which copies them as they are.
        return (_tensor, (value.numpy(),)) if type(value) is Tensor and _is_plain(value) else NotImplemented


def _is_plain(tensor: Tensor) -> bool:
    on_cpu = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return on_cpu and tensor.is_contiguous() and not tensor.requires_grad and tensor.dtype != torch.bfloat16


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        # Of memory that cannot be written to, as that which Ray shares: nothing here writes to it.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
