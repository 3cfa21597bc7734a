import json
import os

import numpy as np
import pytest
import safetensors.torch
import torch

from coterie.errors import DataError
from coterie.label_file import name_forms, read_column, read_vectors

VECTORS = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)


def test_npy_and_safetensors_stay_on_disk(tmp_path) -> None:
    np.save(tmp_path / "v.npy", VECTORS)
    safetensors.torch.save_file({"w": torch.from_numpy(VECTORS)}, tmp_path / "v.safetensors")
    for name in ("v.npy", "v.safetensors"):
        found = read_vectors(tmp_path / name)
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, VECTORS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_of_every_float_are_those_of_its_own_reader(tmp_path, dtype: torch.dtype) -> None:
    tensor = torch.from_numpy(VECTORS).to(dtype)
    safetensors.torch.save_file({"bias": torch.ones(4), "w": tensor}, tmp_path / "v.safetensors")
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.safetensors"), tensor.double().numpy())


def test_one_matrix_of_several_is_named(tmp_path) -> None:
    np.savez(tmp_path / "v.npz", a=VECTORS, b=VECTORS + 1, bias=np.ones(5))
    np.testing.assert_array_equal(read_vectors(tmp_path / "v.npz", "b"), VECTORS + 1)
    with pytest.raises(DataError, match=r"holds 2 matrices; name one with --array. It has: a 5x3, b 5x3, bias 5"):
        read_vectors(tmp_path / "v.npz")
    with pytest.raises(DataError, match="has no array 'c'; it has: a 5x3"):
        read_vectors(tmp_path / "v.npz", "c")
    np.savez(tmp_path / "w.npz", a=VECTORS, bias=np.ones(5))
    np.testing.assert_array_equal(read_vectors(tmp_path / "w.npz"), VECTORS)


def test_files_that_are_none_are_named(tmp_path) -> None:
    (tmp_path / "v.npy").write_bytes(b"not numpy at all")
    (tmp_path / "v.npz").write_bytes(b"PK not a zip")
    (tmp_path / "v.safetensors").write_bytes((10**6).to_bytes(8, "little") + b"{}")
    for name in ("v.npy", "v.npz", "v.safetensors"):
        with pytest.raises(DataError, match=name):
            read_vectors(tmp_path / name)
    (tmp_path / "v.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"allowed: .npy, .npz, .safetensors"):
        read_vectors(tmp_path / "v.txt")
    with pytest.raises(DataError, match="does not exist"):
        read_vectors(tmp_path / "none.npy")
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 12]}}).encode()
    (tmp_path / "v.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(DataError, match="damaged: w has 12 bytes for shape"):
        read_vectors(tmp_path / "v.safetensors")


def test_objects_are_not_unpickled(tmp_path) -> None:
    np.save(tmp_path / "v.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"v\.npy"):
        read_vectors(tmp_path / "v.npy")


def test_names_come_from_lines_json_or_a_column(tmp_path) -> None:
    (tmp_path / "n.txt").write_text("apple\npear\n", encoding="utf-8")
    (tmp_path / "n.json").write_text('["apple", "pear"]', encoding="utf-8")
    (tmp_path / "n.csv").write_text("fine,coarse\napple,fruit\npear,fruit\n", encoding="utf-8")
    for place in ("n.txt", "n.json", "n.csv:fine"):
        assert read_column(str(tmp_path / place), 2, "names") == ("apple", "pear")
    assert read_column(str(tmp_path / "n.csv:coarse"), 2, "groups") == ("fruit", "fruit")
    with pytest.raises(DataError, match="has no column 'middle'; it has: fine, coarse"):
        read_column(str(tmp_path / "n.csv:middle"), 2, "groups")
    with pytest.raises(DataError, match=r"n.txt holds 2 names for 3 classes; allowed: one for each class"):
        read_column(str(tmp_path / "n.txt"), 3, "names")
    with pytest.raises(DataError, match="cannot read names from"):
        read_column(str(tmp_path / "none.txt"), 3, "names")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("n.txt", "cat\ndog\n"),
        ("n.txt", "cat\r\ndog  \r\n\r\n"),
        ("n.json", '["cat", "dog"]'),
        ("n.json", '{"1": "dog", "0": "cat"}'),
        ("n.json", '{"dog": 1, "cat": 0}'),
    ],
)
def test_names_as_people_keep_them(name: str, content: str, tmp_path) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / name).write_bytes(content.encode(encoding))
        assert read_column(str(tmp_path / name), 2, "names") == ("cat", "dog")


def test_a_column_of_a_spreadsheet_with_a_mark(tmp_path) -> None:
    (tmp_path / "n.csv").write_text("name,x\ncat,1\ndog,2\n", encoding="utf-8-sig")
    assert read_column(f"{tmp_path / 'n.csv'}:name", 2, "names") == ("cat", "dog")


@pytest.mark.parametrize("content", ['{"0": "cat", "2": "dog"}', '{"cat": 0, "dog": 0}', '{"cat": "a"}'])
def test_numbers_that_are_none_of_a_class_are_refused(content: str, tmp_path) -> None:
    (tmp_path / "n.json").write_text(content)
    with pytest.raises(DataError, match=r"cannot read names from .*n.json"):
        read_column(str(tmp_path / "n.json"), 2, "names")


def test_imagenets_lines_have_several_forms() -> None:
    forms = name_forms(["n01440764 tench, Tinca tinca", "n01443537 goldfish"])
    assert forms[1:] == [("n01440764", "n01443537"), ("tench, Tinca tinca", "goldfish"), ("tench", "goldfish")]
    assert name_forms(["n01440764 tench", "goldfish"]) == [("n01440764 tench", "goldfish")]


def test_a_byte_order_mark_and_odd_line_ends_are_no_part_of_names(tmp_path) -> None:
    for name, text in (
        ("n.txt", "NA\r\n pe\u2028ar\r\n"),
        ("n.json", '["NA", " pe\u2028ar"]'),
        ("n.csv", "fine,coarse\r\nNA,1\r\n pe\u2028ar,2\r\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8-sig", newline="")
    for place in ("n.txt", "n.json", "n.csv:fine"):
        assert read_column(str(tmp_path / place), 2, "names") == ("NA", " pe\u2028ar")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("n.json", b"[" * 100_000, "cannot read names from"),
        ("n.json", b'["a", null]', "holds names that are none: null is number 1"),
        ("n.json", b'["a", ["b"]]', r"holds names that are none: \[.b.\] is number 1"),
        ("n.txt", b"\na\n", 'holds names that are none: "" is number 0'),
        ("n.csv:b", b"a,b\n1,2\n3\n", "holds names that are none: null is number 1"),
        ("n.csv:b", b'a,b\n1,"' + b"x" * 200_000, "cannot read names from .*field larger"),
        ("n.txt", b"\xff", "cannot read names from .*utf-8"),
        ("n" * 300, None, "cannot read names from .*File name too long"),
        ("pipe", None, "cannot read names from .*pipe: not a regular file"),
    ],
)
def test_names_that_are_none_are_named(tmp_path, name: str, content: bytes | None, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    if content is not None:
        (tmp_path / name.partition(":")[0]).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_column(str(tmp_path / name), 2, "names")


def test_vectors_from_what_is_no_regular_file(tmp_path) -> None:
    os.mkfifo(tmp_path / "v.npz")
    with pytest.raises(DataError, match=r"cannot read .*v\.npz: not a regular file"):
        read_vectors(tmp_path / "v.npz")
    with pytest.raises(DataError, match="File name too long"):
        read_vectors(tmp_path / f"{'v' * 300}.npz")
