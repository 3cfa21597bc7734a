"""Values that a stranger would try, and edits of JSON with them."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

# Beside the run, in the folder of the case: nothing there may be read, written or deleted.
SENTINEL = "sentinel"
# A module that nobody trusts: that it is looked for is too much.
STRANGER = "stranger_of_the_fuzzer"

PATHS = (
    f"../{SENTINEL}/victim.txt",
    f"specialists/../../{SENTINEL}/victim.txt",
    f"specialists/3/../../../{SENTINEL}/docs/kept.txt",
    f"logits/stages/../../../{SENTINEL}/new.txt",
    f"./../{SENTINEL}",
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "/dev/zero",
    "a\0b",
    "specialists/a\0b",
    "x" * 300,
    "specialists/" + "y/" * 300 + "z",
    "C:\\windows\\system.ini",
    "manifest.json",
    ".lock",
    "report.html",
    "specialists",
)
TEXTS = (
    *PATHS,
    " ",
    "x" * 100_000,
    "\x1b]0;owned\x07\x1b[2J\x1b]52;c;b3duZWQ=\x07",
    "a\rb\x08\x9b31m",
    "[/red] [bold [link=x]",
    "\ud800",
    "\u2028\u202e\ufeff",
    "<script>alert(1)</script>{{7*7}}{%x%}",
    "nan",
    "-1",
    "99999999999999999999d",
    "9" * 5000,
    f"{STRANGER}:build",
    "os:system",
    "python:os.system",
    "transformers:stranger/model",
    "timm:hf-hub:stranger/model",
    "timm:resnet18",
    "torchvision:resnet18",
    "wrn-99999999-99999999",
    "convnet-1000000000",
    "mlp-1000000000",
    "ngram-1000000000",
    "table-mlp-0",
    "lora-1000000000",
    "column:label",
    "hub:stranger/data",
    "stage3",
    "features",
    "image",
    "tokens",
)
NUMBERS = (
    0,
    1,
    -1,
    2,
    0.5,
    -0.0,
    1e-320,
    1e300,
    1e308,
    -1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    10**9,
    -(10**9),
    2**31,
    2**63,
    2**64,
    10**400,
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"a": 1}, [1, "a"], {"": {}}, [[[[]]]])
DEEP = 200_000


def any_value(rng: Random) -> Any:
    """A value of any type."""
    return rng.choice(rng.choice((TEXTS, NUMBERS, OTHERS)))


def edit(rng: Random, values: Any) -> str:
    """Change one entry of nested values in place; says what was done."""
    found = _entry(rng, values)
    if found is None:
        return "nothing to change"
    holder, key, path = found
    return f"{path} {rng.choice(EDITS)(rng, holder, key)}"


def _entry(rng: Random, holder: Any) -> tuple[Any, Any, str] | None:
    """A random entry: a level at a time, so that a long list is not met more often than a short record."""
    path = ""
    while isinstance(holder, dict | list) and holder:
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        path = f"{path}.{key}"[:80]
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.3:
            return holder, key, path
        holder = inner
    return None


def _drop(_: Random, holder: Any, key: Any) -> str:
    del holder[key]
    return "dropped"


def _replace(rng: Random, holder: Any, key: Any) -> str:
    holder[key] = any_value(rng)
    return f"= {holder[key]!r:.60}" if not isinstance(holder[key], int) else "= a whole number"


def _same_type(rng: Random, holder: Any, key: Any) -> str:
    """Another value of the same type: what a check of types alone lets through."""
    old = holder[key]
    if isinstance(old, bool):
        holder[key] = not old
    elif isinstance(old, int | float):
        holder[key] = rng.choice((*NUMBERS, old + 1, old - 1, -old, old * 1000))
    elif isinstance(old, str):
        holder[key] = rng.choice(TEXTS)
    elif isinstance(old, list) and old:
        holder[key] = rng.choice((old[:-1], old + old, old[::-1], [old[0]] * len(old), [old], old * 50))
    elif isinstance(old, dict) and old:
        name = rng.choice(list(old))
        holder[key] = {**{k: v for k, v in old.items() if k != name}, rng.choice(TEXTS): old[name]}
    return f"= {type(old).__name__} of another value"


def _rename(rng: Random, holder: Any, key: Any) -> str:
    if isinstance(holder, dict):
        holder[rng.choice((*TEXTS, f"{key}x"))] = holder.pop(key)
    return "renamed"


def _add(rng: Random, holder: Any, key: Any) -> str:
    if isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder[key] if rng.random() < 0.5 else any_value(rng)
    else:
        holder.insert(key, holder[key] if rng.random() < 0.5 else any_value(rng))
    return "has a neighbour"


def _swap(rng: Random, holder: Any, key: Any) -> str:
    other = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
    holder[key], holder[other] = holder[other], holder[key]
    return f"swapped with {other!r:.20}"


EDITS = (_drop, _replace, _same_type, _same_type, _rename, _add, _swap)


def edited_json(rng: Random, content: bytes) -> tuple[bytes, str]:
    """JSON with one to three entries changed; now and then broken as text instead."""
    if rng.random() < 0.2:
        return broken(rng, content)
    values = json.loads(content)
    done = [edit(rng, values) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return json.dumps(values, ensure_ascii=rng.random() < 0.5).encode("utf-8", "replace"), "; ".join(done)


def broken(rng: Random, content: bytes) -> tuple[bytes, str]:
    """Bytes that are no longer what they were, whatever that was."""
    name = rng.choice(list(BREAKS))
    return BREAKS[name](rng, content), name


def _flip(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 8, 64)) if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _long_number(rng: Random, content: bytes) -> bytes:
    numbers = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not numbers:
        return content
    found = rng.choice(numbers)
    return content[: found.start()] + b"9" * rng.choice((400, 5000)) + content[found.end() :]


def _at(rng: Random, content: bytes, *added: bytes) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + rng.choice(added) + content[place:]


BREAKS = {
    "truncated": lambda rng, content: content[: rng.randrange(len(content) + 1)],
    "bits flipped": _flip,
    "empty": lambda _, __: b"",
    "twice": lambda _, content: content + content,
    "a number of many digits": _long_number,
    "not UTF-8": lambda rng, content: _at(rng, content, b"\xff", b"\xc3\x28", b"\xed\xa0\x80"),
    "NUL": lambda rng, content: _at(rng, content, b"\0", b"\0" * 5000),
    "a byte order mark": lambda _, content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda _, content: content.decode("utf-8", "replace").encode("utf-16"),
    "nested": lambda rng, _: rng.choice((b"[", b'{"a":')) * DEEP,
    "nested and closed": lambda rng, _: b"[" * DEEP + b"]" * DEEP,
    "nested value": lambda _, content: content.replace(b":", b":" + b"[" * DEEP + b"]" * DEEP + b",", 1),
    "another value": lambda rng, _: json.dumps(any_value(rng)).encode(),
    "a name twice": lambda rng, content: content.replace(
        b"{", b'{"complete": 1, "format": 2, "files": {}, "model": 0,', rng.choice((1, 3))
    ),
}
