"""Files of texts are read in blocks, of which a row may not span two."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

# Cells may be longer than what the readers take at once, and are then tried with more.
BLOCK_BYTES = (2**22, 2**30)


def in_blocks(read: Callable[[int], pa.Table]) -> pa.Table:
    """What ``read`` returns, which is given the bytes of a block: more where a row does not fit into one.

    Raises:
        pyarrow.ArrowInvalid: as ``read``; a row does not fit into the largest block.
    """
    for block_bytes in BLOCK_BYTES[:-1]:
        try:
            return read(block_bytes)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise
    return read(BLOCK_BYTES[-1])
