from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from coterie.system import gzipped
from coterie.system.gzipped import open_unpacked


@pytest.mark.parametrize("content", [b"", b"a", b"a,b\n" * 10**6])
def test_bytes_are_those_that_were_packed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plain").write_bytes(content)
    (tmp_path / "packed").write_bytes(gzip.compress(content))
    for name in ("plain", "packed"):
        with open_unpacked(tmp_path / name) as stream:
            assert stream.read() == content
        with io.TextIOWrapper(open_unpacked(tmp_path / name)) as text:
            assert sum(map(len, text)) == len(content)


def test_what_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "MOST_BYTES", 2**16)
    (tmp_path / "packed").write_bytes(gzip.compress(bytes(2**24)))
    with open_unpacked(tmp_path / "packed") as stream:
        assert stream.read(100) == bytes(100)
        with pytest.raises(ValueError, match=r"[\d,]+ bytes unpack to more than [\d,]+"):
            stream.read()
