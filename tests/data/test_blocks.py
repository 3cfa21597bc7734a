"""Rows that do not fit into a block are tried with a larger one."""

from __future__ import annotations

import pyarrow as pa
import pytest

from coterie.data.blocks import BLOCK_BYTES, in_blocks


@pytest.mark.parametrize("fits", BLOCK_BYTES)
def test_the_first_block_into_which_the_rows_fit_is_taken(fits: int) -> None:
    tried = []

    def read(block_bytes: int) -> pa.Table:
        tried.append(block_bytes)
        if block_bytes < fits:
            raise pa.ArrowInvalid("straddling object straddles two block boundaries")
        return pa.table({"bytes": [block_bytes]})

    assert in_blocks(read)["bytes"].to_pylist() == [fits]
    assert tried == list(BLOCK_BYTES[: BLOCK_BYTES.index(fits) + 1])


@pytest.mark.parametrize(("message", "n_tries"), [("straddling object", len(BLOCK_BYTES)), ("invalid number", 1)])
def test_what_is_wrong_in_any_block_is_raised(message: str, n_tries: int) -> None:
    tried = []

    def read(block_bytes: int) -> pa.Table:
        tried.append(block_bytes)
        raise pa.ArrowInvalid(message)

    with pytest.raises(pa.ArrowInvalid, match=message):
        in_blocks(read)
    assert len(tried) == n_tries
