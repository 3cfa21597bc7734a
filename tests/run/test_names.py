import pytest

from coterie.partition import Partition
from coterie.run.names import check_file_name, outputs_file, specialist_files


def test_names_that_runs_have_are_allowed() -> None:
    partition = Partition.from_assignment([0, 0, 1])
    for name in (*specialist_files(partition), outputs_file("test-flipped"), "comparison.html", "a" * 200):
        assert check_file_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/", "/etc/passwd", "../x", "a/../../x", "a/./x", "a//x", "a/", "~/x", "C:x", "a\\..\\x"),
        *("a\0b", "a\nb", "\x1b[2J", "é", "a" * 201, "a/" * 5000 + "a"),
        *(".lock", ".lock.json", ".base.safetensors.tmp", "a/.b", "manifest.json", "MANIFEST.json"),
    ],
)
def test_names_that_could_be_elsewhere_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no name of a file in a run; allowed"):
        check_file_name(name)
