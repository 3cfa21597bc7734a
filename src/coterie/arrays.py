"""The array types that all modules share; names of arrays carry their axes (see docs/how-it-works.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]


def native(array: NDArray[Any]) -> NDArray[Any]:
    """An array in the machine's byte order, which torch needs; a view where it is in this order already."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)
