import pytest

from coterie.system.json_text import DEEPEST, MOST_BYTES, from_json, to_json


def test_what_is_written_is_read_back() -> None:
    values = {"é": [1.5, None, "\u2028"], "deep": [[[]]]}
    assert from_json(to_json(values)) == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "Expecting property name"),
        (b"\xff\xfe", "utf-8"),
        (b'{"a": NaN}', "not JSON compliant"),
        (b"[1e999]", "not JSON compliant"),
        (b"9" * 5000, "4300 digits"),
        (b'["\\ud800"]', "surrogates not allowed"),
        (b"[" * 200_000 + b"]" * 200_000, f"nested more than {DEEPEST} deep"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, f"nested more than {DEEPEST} deep"),
    ],
)
def test_what_could_not_be_written_is_not_read(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(content)


def test_no_more_is_read_than_any_run_has() -> None:
    with pytest.raises(ValueError, match="67,108,865 bytes; at most 67,108,864"):
        from_json(b" " * (MOST_BYTES + 1))
