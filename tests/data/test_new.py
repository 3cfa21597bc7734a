from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from coterie.data import find_new, new, read_new
from coterie.data.given import given_samples
from coterie.errors import DataError, InputError
from coterie.inputs import FeaturePreprocessing, ImagePreprocessing, NGramPreprocessing, Scale
from coterie.inputs.samples import MemorySamples
from data_files import FEATURES, KINDS, TABLE, encode, load, picture, png, write, write_parquet

IMAGES = ImagePreprocessing(12, 12, 3, (100.0,) * 3, (50.0,) * 3)
THREE = FeaturePreprocessing(Scale((0.0,) * 3, (1.0,) * 3))
TEXTS = NGramPreprocessing(64, 8)


@pytest.fixture
def pics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images at two depths, beside other files and hidden ones."""
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(("b/1.png", "b/0.JPG", "a/deep/2.png", ".hidden/3.png", "b/.4.png")):
        file = tmp_path / "pics" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(k))
    (tmp_path / "pics/b/notes.txt").write_text("no image\n")
    return tmp_path / "pics"


def pixels(samples: MemorySamples) -> np.ndarray:
    return samples.read(torch.arange(len(samples))).numpy()


def test_folders_patterns_and_files_name_images_in_the_order_of_names(pics: Path) -> None:
    everything = ("pics/a/deep/2.png", "pics/b/0.JPG", "pics/b/1.png")
    for arguments, expected in (
        (["pics"], everything),
        (["pics/*"], everything),
        (["pics/b", "pics/a/deep/2.png"], (*everything[1:], everything[0])),
        (["pics/**/*.png"], (everything[0], everything[2])),
        (["**/*.png"], (everything[0], everything[2])),
        (["pics/?/*.png"], (everything[2],)),
        ([str(pics / "b" / "[01].png")], (str(pics / "b/1.png"),)),
    ):
        assert read_new(IMAGES, arguments).names == expected, arguments
    (pics / "[x].png").write_bytes(png(7))
    assert read_new(IMAGES, ["pics/[x].png"]).names == ("pics/[x].png",)


def test_other_files_of_a_folder_are_named_once(pics: Path) -> None:
    told: list[str] = []
    found = find_new(IMAGES, ["pics"], note=told.append)
    assert found.count() == 3
    assert [len(batch.names) for batch in found.batches(2)] == [2, 1]
    assert told == ["left out of pics: 1 file of other kinds, such as pics/b/notes.txt"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("pics/none/*.png", r"cannot read pics/none/\*.png: no file matches"),
        ("pics/**/a/**/*.png", r"a pattern may hold one \*\*/"),
        ("pics/empty", r"no image file \(.png, .jpg and the like\) in pics/empty"),
        ("pics/loop", "is a link that leads back to a folder above it"),
        ("nosuch.csv", "cannot load csv:nosuch.csv: No such file"),
        ("nosuch.txt", "cannot read nosuch.txt: no such file"),
        ("pics/b/notes.txt", "1 of 1 files cannot be read: pics/b/no image: No such file"),
        ("pics/list.csv", "list.csv has no column 'file_name' of image files; columns: x, y"),
        ("pics/bare.csv", "bare.csv holds no row"),
        ("a\0b.png", "1 of 1 files cannot be read"),
    ],
)
def test_what_names_no_image(pics: Path, argument: str, message: str) -> None:
    (pics / "empty/below").mkdir(parents=True)
    (pics / "loop").mkdir()
    (pics / "loop/back").symlink_to(pics / "loop")
    (pics / "list.csv").write_text("x,y\n1,2\n")
    (pics / "bare.csv").write_text("path\n")
    with pytest.raises(DataError, match=message):
        read_new(IMAGES, [argument])
    skipped: list[str] = []
    both = find_new(IMAGES, [argument, "pics/b/1.png"], skip=skipped.append)
    assert [batch.names for batch in both.batches()] == [("pics/b/1.png",)]
    assert len(skipped) == 1


def test_tables_and_lists_name_images_from_their_own_folder(pics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pics / "list.csv").write_text("id,path\n1,b/1.png\n2,a/deep/2.png\n")
    (pics / "list.txt").write_text("b/1.png\n\na/deep/2.png\n")
    expected = ("pics/b/1.png", "pics/a/deep/2.png")
    for name in ("pics/list.csv", "pics/list.txt"):
        assert read_new(IMAGES, [name]).names == expected
    monkeypatch.setattr("sys.stdin", io.StringIO("pics/b/1.png\npics/a/deep/2.png"))
    assert find_new(IMAGES, ["-"]).count() is None
    assert read_new(IMAGES, ["-"]).names == expected
    (pics / "odd.csv").write_text("path\n b/1.png \na\\deep\\2.png\n")
    assert read_new(IMAGES, ["pics/odd.csv"]).names == expected
    (pics / "other.csv").write_text("path,picture\nnone.png,b/1.png\n")
    assert next(find_new(IMAGES, ["pics/other.csv"], columns=("picture",)).batches()).names == ("pics/b/1.png",)
    (pics / "ids.csv").write_text("path\n1\n")  # without their endings, and in the one folder that has them
    assert read_new(IMAGES, ["pics/ids.csv"]).names == (f"{pics}/b/1.png",)
    with pytest.raises(DataError, match="- is named more than once"):
        find_new(IMAGES, ["-", "-"])


def test_encoded_images_of_a_table(pics: Path) -> None:
    write_parquet(pics / "all.parquet", ["x", "y", "z"], [png(0), None, png(1)])
    with pytest.raises(DataError, match=r"1 of 3 files cannot be read: pics/all\.parquet row 2: no image in this row"):
        read_new(IMAGES, ["pics/all.parquet"])
    found = read_new(IMAGES, ["pics/all.parquet"], skip_broken=True)
    assert found.names == ("pics/all.parquet row 1", "pics/all.parquet row 3")
    np.testing.assert_array_equal(pixels(found.samples), [np.asarray(picture(0)), np.asarray(picture(1))])


def test_broken_images_are_named_with_their_number_and_skipped_where_wanted(pics: Path) -> None:
    (pics / "b/5.png").write_bytes(b"no")
    (pics / "b/6.png").symlink_to("nowhere")
    with pytest.raises(
        DataError, match=r"2 of 5 files cannot be read: pics/b/5\.png: not an image in any known format"
    ):
        read_new(IMAGES, ["pics"])
    found = read_new(IMAGES, ["pics"], skip_broken=True)
    assert len(found.samples) == 3
    assert [line.split(":")[0] for line in found.skipped] == ["pics/b/5.png", "pics/b/6.png"]


def test_batches_hold_the_same_samples_as_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.arange(30.0).reshape(10, 3)
    np.save(tmp_path / "a.npy", rows[:7])
    np.savetxt(tmp_path / "b.csv", rows[7:], delimiter=",", header="x,y,z", comments="")
    write(tmp_path / "c.parquet", {"vector": rows[:2].tolist(), "label": ["u", "v"]})
    monkeypatch.setattr(new, "ROWS", 3)
    found = find_new(THREE, [str(tmp_path)])
    assert found.count() == 12
    batches = list(found.batches(5))
    assert [len(batch.names) for batch in batches] == [5, 5, 2]
    expected = np.concatenate([rows, rows[:2]])
    np.testing.assert_array_equal(np.concatenate([pixels(batch.samples) for batch in batches]), expected)
    assert batches[1].names[1:3] == (f"{tmp_path}/a.npy row 7", f"{tmp_path}/b.csv row 1")


def test_a_million_files_are_not_decoded_at_once() -> None:
    assert new.rows_at_once(IMAGES) == 1000  # two batches of the network
    assert new.rows_at_once(ImagePreprocessing(4096, 4096, 3, (0.0,) * 3, (1.0,) * 3)) == 5
    assert new.rows_at_once(TEXTS) == 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,y\n1,2\n", "a.csv: the networks take 3 features"),
        ("x,y,z\n1,2,\n", "a.csv: .* holds NaN, infinity or what is beyond float32, the first is row 0"),
        ("x,y,z\n1,2,three\n", "a.csv: column 'z' holds no numbers, as each feature does: 'three' in row 0"),
        ("", "cannot load csv:.*a.csv: it is empty"),
    ],
)
def test_features_that_do_not_fit_name_their_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises((DataError, InputError), match=message):
        read_new(THREE, [str(tmp_path / "a.csv")])
    np.save(tmp_path / "b.npy", np.zeros((2, 3)))
    found = read_new(THREE, [str(tmp_path)], skip_broken=True)
    assert len(found.samples) == 2
    assert len(found.skipped) == 1
    with pytest.raises(DataError, match=r"no row to classify; .*a\.csv"):
        read_new(THREE, [str(tmp_path / "a.csv")], skip_broken=True)


def test_folders_and_patterns_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail/b.txt").write_text("first\n\n")
    (tmp_path / "mail/a.csv").write_text("text\nsecond\n")
    assert read_new(TEXTS, ["mail/"], skip_broken=True).names == ("second", "first")
    assert read_new(TEXTS, ["mail/*.csv", "mail", "what*?"]).names == ("second", "mail", "what*?")
    with pytest.raises(DataError, match=r"line 2 of mail/b\.txt: empty"):
        read_new(TEXTS, ["mail/*.txt"])


def given(preprocessing, raw) -> np.ndarray:
    return np.concatenate([pixels(samples) for samples in given_samples(preprocessing, raw)])


def test_python_passes_pictures_as_files_are_read(pics: Path) -> None:
    """Of any size and mode, by whatever is at hand."""
    wide = picture(3, (30, 20))
    wide.save("wide.png")
    expected = pixels(read_new(IMAGES, ["wide.png", "pics/b/1.png"]).samples)
    content = Path("wide.png").read_bytes()
    for one in (wide, content, "wide.png", Path("wide.png"), [wide], (content,)):
        np.testing.assert_array_equal(given(IMAGES, one), expected[:1])
    np.testing.assert_array_equal(given(IMAGES, [wide, "pics/b/1.png"]), expected)
    np.testing.assert_array_equal(given(IMAGES, "pics"), pixels(read_new(IMAGES, ["pics"]).samples))
    np.testing.assert_array_equal(given(IMAGES, expected), expected)
    np.testing.assert_array_equal(given(IMAGES, [*expected]), expected)
    turned = picture(4)
    turned.getexif()[0x0112] = 6
    np.testing.assert_array_equal(given(IMAGES, turned)[0], np.rot90(np.asarray(picture(4)), -1))
    palette = picture(5).quantize(16)
    np.testing.assert_array_equal(given(IMAGES, palette), given(IMAGES, encode(palette)))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("nosuch.png", r"1 of 1 files cannot be read: nosuch.png: No such file or directory$"),
        ([b"no", b""], "2 of 2 files cannot be read: image 0: not an image in any known format"),
        (picture(0).convert("F"), "image 0: 32 bits a pixel, of which no training image says what is black"),
        ([picture(0), 3], "image 1 of 2 is of the type int, where others are PIL images, bytes or paths"),
        ([picture(0), np.zeros((12, 12, 3), np.uint8)], "arrays are passed as one array"),
        ([], "the networks take images"),
        ("-", "./-: No such file"),
        ("pics/none.txt", "no image to classify"),
        (np.zeros((2, 9, 9, 3), np.uint8), r"got samples of shape \(9, 9, 3\)"),
    ],
)
def test_what_python_passes_that_is_no_picture(pics: Path, raw: object, message: str) -> None:
    (pics / "none.txt").write_text("\n")
    with pytest.raises((DataError, InputError), match=message):
        given(IMAGES, raw)


def test_python_passes_paths_of_features_and_texts(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.eye(3))
    for raw in (file, str(file), [file, file]):
        assert given(THREE, raw).tolist() == np.eye(3).tolist() * (2 if isinstance(raw, list) else 1)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    assert len(given(TEXTS, tmp_path / "a.txt")) == 2
    assert len(given(TEXTS, [str(tmp_path / "a.txt")])) == 1  # a text
    with pytest.raises(DataError, match="cannot read nosuch: no such file"):
        given(TEXTS, Path("nosuch"))


def test_new_texts_come_from_arguments_and_files(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("first\nsecond\n")
    new = read_new(TEXTS, ["a text?", str(tmp_path / "lines.txt")])
    assert new.names == ("a text?", "first", "second")
    assert len(new.samples) == 3


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_new_texts_come_from_a_column_of_a_file(tmp_path: Path, suffix: str) -> None:
    preprocessing, file = TEXTS, tmp_path / f"new.{suffix}"
    write(file, {"text": ["first", "second"], "title": ["a", "b"]})
    assert read_new(preprocessing, [str(file), "third"]).names == ("first", "second", "third")
    assert read_new(preprocessing, [str(file)], columns=("title",)).names == ("a", "b")
    write(file, {"number": [1], "body": ["only"]})
    assert read_new(preprocessing, [str(file)]).names == ("only",)
    write(file, {"title": ["a"], "body": ["b"]})
    with pytest.raises(DataError, match="has no column 'text' of texts; columns: title, body"):
        read_new(preprocessing, [str(file)])


@pytest.mark.parametrize(
    ("argument", "message"),
    [("nosuch.txt", "cannot read nosuch.txt: no such file"), ("", "text 1: empty. --skip-broken leaves")],
)
def test_new_texts_that_are_none(argument: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_new(TEXTS, [argument])
    with pytest.raises(DataError, match=message.split(":")[0] if argument else "no text to classify"):
        read_new(TEXTS, [argument], skip_broken=True)


def test_a_file_of_other_bytes_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        read_new(TEXTS, [str(tmp_path / "a.txt")])
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04\xb5")
    with pytest.raises(DataError, match=r"a spreadsheet \(.xlsx\) or an archive, .*; save the sheet as csv"):
        read_new(TEXTS, [str(tmp_path / "a.xlsx")])


def test_new_rows_and_features(tmp_path: Path) -> None:
    preprocessing = load(write(tmp_path / "all.csv", {**TABLE, "kind": KINDS}), label="kind").preprocessing
    write(tmp_path / "new.jsonl", {"colour": ["red"], "zip": [8], "size": [2.0], "more": [1]})
    new = read_new(preprocessing, [str(tmp_path / "new.jsonl")])
    assert new.samples.show(0) == "size = 2, zip = 8, colour = red"
    assert new.names == (f"{tmp_path}/new.jsonl row 1",)
    write(tmp_path / "less.csv", {"size": [2.0]})
    with pytest.raises(InputError, match="missing: zip, colour; there: size"):
        read_new(preprocessing, [str(tmp_path / "less.csv")])
    with pytest.raises(DataError, match=r"cannot tell what .*rows\.txt is"):
        read_new(preprocessing, [str(tmp_path / "rows.txt")])
    np.savez(tmp_path / "all.npz", features=FEATURES, labels=np.array(KINDS))
    preprocessing = load(f"features:{tmp_path}/all.npz").preprocessing
    np.save(tmp_path / "new.npy", FEATURES[:4])
    assert len(read_new(preprocessing, [str(tmp_path / "new.npy"), str(tmp_path / "all.npz")]).samples) == 24
    np.save(tmp_path / "scalar.npy", np.float32(1))
    with pytest.raises(InputError, match=r"got an array of shape \(\)"):
        read_new(preprocessing, [str(tmp_path / "scalar.npy")])
    np.save(tmp_path / "other.npy", FEATURES[:, :2])
    with pytest.raises(InputError, match="3 features"):
        read_new(preprocessing, [str(tmp_path / "other.npy")])


def test_lines_end_with_a_newline_alone_and_a_mark_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ufeffone\u2028half\r\ntwo\x85 \x0c half\nthree"
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for argument in (str(tmp_path / "a.txt"), "-"):
        new = read_new(TEXTS, [argument])
        assert new.names == ("one\u2028half", "two\x85 \x0c half", "three")


@pytest.mark.parametrize("name", ["new.txt", "new.csv", "new.jsonl", "new.parquet", "new"])
def test_a_pipe_of_texts_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match="not a regular file"):
        read_new(TEXTS, [str(tmp_path / name)])


def test_what_is_no_name_of_a_file_is_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "refunds").mkdir()
    texts = ["long " * 100, "null\0character", "~nobody/here", "refunds"]
    assert read_new(TEXTS, texts).names == tuple(texts)


def test_a_row_is_the_same_alone_and_beside_others_of_other_files(tmp_path: Path) -> None:
    codes = ["A1", "01234", "1234", "NA"] * 5
    source = write(tmp_path / "all.csv", {"code": codes, "size": range(20), "kind": KINDS})
    preprocessing = load(source, label="kind").preprocessing
    for k, code in enumerate(("01234", "1234", "A1", "NA")):
        (tmp_path / f"{k}.csv").write_text(f"code,size\n{code},1.5\n")
    (tmp_path / "4.jsonl").write_text('{"code": 1234, "size": 3}\n')
    (tmp_path / "5.jsonl").write_text('{"code": "01234", "size": null}\n')
    files = [str(tmp_path / f"{k}.{'csv' if k < 4 else 'jsonl'}") for k in range(6)]
    together = read_new(preprocessing, files).samples.read(torch.arange(6))
    alone = [read_new(preprocessing, [file]).samples for file in files]
    expected = torch.cat([samples.read(torch.arange(len(samples))) for samples in alone])
    torch.testing.assert_close(together, expected, equal_nan=True)
    assert together[:, 1].tolist() == [2, 3, 4, 5, 3, 2]


def test_a_row_that_does_not_fit_is_named_by_its_batch_and_takes_no_other_with_it(tmp_path: Path) -> None:
    preprocessing = load(write(tmp_path / "all.csv", {**TABLE, "kind": KINDS}), label="kind").preprocessing
    (tmp_path / "new.csv").write_text("size,zip,colour\n1,2,red\nmany,2,red\n")
    for skip in (True, False):
        with pytest.raises(InputError, match=r"new.csv row 1 and the 1 after it: column 'size' .*'many' in row 1"):
            read_new(preprocessing, [str(tmp_path / "new.csv")], skip_broken=skip)
    with pytest.raises(InputError, match=r"^text 1: the networks take .* half of a surrogate pair"):
        read_new(TEXTS, ["a\ud800"])


def test_new_texts_of_one_file_do_not_depend_on_what_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,id\n007,1\nNA,2\n")
    assert read_new(TEXTS, [str(tmp_path / "a.csv")], columns=("body",)).names == ("007", "NA")
    (tmp_path / "a.csv").write_text("body\n12\n7\n")
    assert read_new(TEXTS, [str(tmp_path / "a.csv")]).names == ("12", "7")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_standard_input_is_utf8_whatever_the_terminals_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    piped = io.TextIOWrapper(io.BytesIO("caf\u00e9\r\ntea\n".encode("utf-8-sig")), encoding)
    monkeypatch.setattr("sys.stdin", piped)
    assert read_new(NGramPreprocessing(2**10, 10), ["-"]).names == ("caf\u00e9", "tea")


@pytest.mark.parametrize("as_list", [True, False])
def test_a_json_file_is_one_of_rows_and_not_of_lines_that_are_texts(tmp_path: Path, as_list: bool) -> None:
    rows = [{"text": "apple pie", "k": 1}, {"text": "pear", "k": 2}]
    text = json.dumps(rows) if as_list else "\n".join(map(json.dumps, rows))
    (tmp_path / "new.json").write_text(text)
    new = read_new(NGramPreprocessing(64, 8), [str(tmp_path / "new.json")])
    assert new.names == ("apple pie", "pear")
