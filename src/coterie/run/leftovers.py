"""What killed processes leave in a run folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from coterie.errors import ArtifactError
from coterie.run.names import CHECKPOINT_FOLDER, MANIFEST
from coterie.system.files import HALF_FILES, files_below
from coterie.system.lock import HOLDER, LOCK

# What a process leaves that dies before it has written a manifest, or writes after its folder was deleted; and what the
# names of files begin with that it had half written.
NO_RUN_YET = (LOCK, HOLDER, CHECKPOINT_FOLDER)
HALF_WRITTEN = (f".{HOLDER}.", f".{MANIFEST}.")
# Where a file that the manifest does not name is what a killed process left.
STAGE_FOLDERS = ("specialists", "logits")


def is_free(path: Path) -> bool:
    """Whether a run can begin here: there is nothing, or nothing but what killed processes left.

    Raises:
        ArtifactError: the folder cannot be read.
    """
    try:
        names = [file.name for file in path.iterdir()]
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}. Choose another --out") from None
    return all(name in NO_RUN_YET or name.startswith(HALF_WRITTEN) for name in names)


def leftovers(path: Path, names: Iterable[str]) -> set[Path]:
    """Half-written files, files of stages that were not finished, states of trainings that were, in a run of which
    ``names`` are the files. No link is followed.
    """
    known = set(names)
    stages = {file for folder in STAGE_FOLDERS for file in files_below(path / folder)}
    states = set(files_below(path / CHECKPOINT_FOLDER))
    half = {file for file in (*path.glob(HALF_FILES), *stages, *states) if file.match(HALF_FILES)}
    done = {path / CHECKPOINT_FOLDER / name for name in known} & states
    return half | done | (stages - {path / name for name in known})


def delete(files: Iterable[Path]) -> None:
    """Delete files; links themselves, not what they lead to.

    Raises:
        ArtifactError: one cannot be deleted.
    """
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise ArtifactError(f"cannot delete {file}: {error.strerror}") from None
