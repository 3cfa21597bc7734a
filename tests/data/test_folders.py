"""Which folder is the class of an image: one rule, for every command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from coterie.config import DataSettings
from coterie.data.additions import read_additions
from coterie.errors import DataError
from data_files import load, png, sizes, write_folder
from helpers import image_form


def added(root: Path, **settings: object) -> dict[str, int]:
    found = read_additions(f"folder:{root}", image_form(3, side=12), DataSettings(**settings))
    return {name: len(samples) for name, samples in found.items()}


@pytest.mark.parametrize("layout", [["cat", "dog"], ["pets/cat", "farm/dog"], ["a/pets/cat", "a/farm/dog"]])
def test_a_class_is_the_folder_that_holds_its_images(tmp_path: Path, layout: list[str]) -> None:
    write_folder(tmp_path, layout)
    splits = load(f"folder:{tmp_path}")
    assert splits.labels.names == ("cat", "dog")
    assert ("levels below" in splits.about) == (len(layout[0]) > 3)
    assert added(tmp_path) == {"cat": 10, "dog": 10}


def test_splits_of_added_samples_count_alike(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ["cat", "dog"], 3)
    write_folder(tmp_path / "test", ["cat", "dog"], 2)
    assert added(tmp_path) == {"cat": 5, "dog": 5}


@pytest.mark.parametrize("read", [lambda root: load(f"folder:{root}"), added])
def test_last_names_that_repeat_are_refused_with_the_levels(tmp_path: Path, read) -> None:
    write_folder(tmp_path, ["cats/2020", "cats/2021", "dogs/2020"], 3)
    message = (
        r"what is a class in .*Folders lie 2 deep \(level 1: cats, dogs; level 2: 2020, 2021\), and of the last "
        r"level 1 name repeats, such as 2020 \(cats/2020, dogs/2020\)"
    )
    with pytest.raises(DataError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("read", [lambda root: load(f"folder:{root}"), added])
def test_images_at_several_depths_are_refused(tmp_path: Path, read) -> None:
    write_folder(tmp_path, ["cat", "dog", "cat/more"], 3)
    with pytest.raises(DataError, match=r"lie at 2 depths: cat \(1 deep\), cat/more \(2 deep\)"):
        read(tmp_path)


@pytest.mark.parametrize("read", [lambda root: load(f"folder:{root}"), added])
def test_a_folder_without_an_image_is_named(tmp_path: Path, read) -> None:
    write_folder(tmp_path, ["cat", "dog"], 3)
    (tmp_path / "emu").mkdir()
    (tmp_path / "emu" / ".DS_Store").write_text("")
    (tmp_path / "fox" / "deep").mkdir(parents=True)
    (tmp_path / "yak").mkdir()
    (tmp_path / "yak" / "lost.png").symlink_to("nosuch.png")
    with pytest.raises(DataError, match=r"no training sample for 3 classes: emu, fox, yak \(folders in"):
        read(tmp_path)


def test_folders_that_systems_leave_are_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    for name in ("__MACOSX", "@eaDir"):
        (tmp_path / name / "cat").mkdir(parents=True)
        (tmp_path / name / "cat" / "._1.png").write_bytes(b"\0\5\x16\7")
    assert load(f"folder:{tmp_path}").labels.names == ("cat", "dog")


def test_a_split_may_lack_samples_of_a_class_that_train_has(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", ["cat", "dog"], 10)
    write_folder(tmp_path / "test", ["cat"], 2)
    (tmp_path / "test" / "dog").mkdir()
    assert sizes(load(f"folder:{tmp_path}"))[2] == 2
    (tmp_path / "test" / "emu").mkdir()
    with pytest.raises(DataError, match=r"no test image for 1 class: emu"):
        load(f"folder:{tmp_path}")


def test_the_only_split_is_all_there_is_unless_other_folders_lie_beside_it(tmp_path: Path) -> None:
    """Images to judge a run on may lie in test/ alone; beside other classes one of them may be called test."""
    write_folder(tmp_path, ["test/cat", "test/dog"], 5)
    splits = load(f"folder:{tmp_path}")
    assert splits.labels.names == ("cat", "dog")
    assert sum(sizes(splits)) == 10
    assert "test is the only split, and taken for all samples" in splits.about
    write_folder(tmp_path, ["other/fox"], 5)
    assert load(f"folder:{tmp_path}").labels.names == ("cat", "dog", "fox")
    write_folder(tmp_path / "two", ["val/cat", "test/cat"], 5)
    with pytest.raises(DataError, match=r"no train split among the folders in .*; found: test, validation"):
        load(f"folder:{tmp_path / 'two'}")


def test_a_class_may_be_a_link(tmp_path: Path) -> None:
    write_folder(tmp_path / "here", ["cat", "dog"], 5)
    write_folder(tmp_path / "there", ["emu"], 5)
    (tmp_path / "here" / "emu").symlink_to(tmp_path / "there" / "emu")
    assert load(f"folder:{tmp_path}/here").labels.names == ("cat", "dog", "emu")
    assert added(tmp_path / "here") == {"cat": 5, "dog": 5, "emu": 5}


def test_a_loop_of_links_is_noticed(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"], 3)
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"cat/again is a link that leads back to a folder above it"):
        load(f"folder:{tmp_path}")
    (tmp_path / "cat" / "again").unlink()
    (tmp_path / "cat" / "self").symlink_to("self")
    with pytest.raises(DataError, match=r"cannot read .*Too many levels of symbolic links"):
        load(f"folder:{tmp_path}")


def test_links_that_lead_nowhere_and_pipes_among_images_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path, ["cat", "dog"])
    (tmp_path / "dog" / "lost.png").symlink_to("nosuch.png")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    for read in (lambda **more: load(f"folder:{tmp_path}", **more), lambda **more: added(tmp_path, **more)):
        with pytest.raises(DataError, match=r"lost\.png: a link that leads nowhere\n.*pipe\.png: not a regular file"):
            read()
        read(skip_broken=True)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path, ["cat", "dog"], 3)
    scandir = os.scandir

    def refuse(place: Path) -> object:  # permissions do not hold for root, whom tests may run as
        if Path(place).name == "dog":
            raise PermissionError(13, "Permission denied", str(place))
        return scandir(place)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"cannot read .*dog: Permission denied"):
        load(f"folder:{tmp_path}")


def test_metadata_of_csv_keeps_the_spelling_of_labels(tmp_path: Path) -> None:
    rows = ["file_name,code"]
    for k in range(12):
        (tmp_path / f"{k}.png").write_bytes(png(k))
        rows.append(f"{k}.png,{('007', '7', 'NA')[k % 3]}")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    assert load(f"folder:{tmp_path}").labels.names == ("007", "7", "NA")
    (tmp_path / "metadata.csv").write_text("name,code\n0.png,a\n")
    with pytest.raises(DataError, match=r"metadata\.csv has no column 'file_name'; columns: name, code"):
        load(f"folder:{tmp_path}")


def test_images_that_no_metadata_names_are_said(tmp_path: Path) -> None:
    for k in range(12):
        (tmp_path / f"{k}.png").write_bytes(png(k))
    rows = [f"./{k}.png,{'ab'[k % 2]}" for k in range(11)]
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    splits = load(f"folder:{tmp_path}")
    assert sum(sizes(splits)) == 11
    assert f"1 image without a line in a metadata file left out, such as {tmp_path}/11.png" in splits.about
    (tmp_path / "11.png").unlink()
    assert "no metadata" not in load(f"folder:{tmp_path}").about
