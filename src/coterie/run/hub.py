"""A run on a hub of models, through huggingface_hub: pushed with a card, and fetched to a folder of the cache.

What is pushed: the files that the manifest names, but for those that show samples of the data, with a manifest that
names these alone, and the card. What is fetched: the files that the manifest there names. They are a stranger's, and
become a run folder like any other, which is checked where it is loaded.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import coterie
from coterie.errors import ArtifactError, SettingsError, first_line
from coterie.pages.card import CardContent, render_card
from coterie.run.caution import caution_on
from coterie.run.folder import REPORT, FinishedRun, Run
from coterie.run.manifest import MANIFEST, MOST_BYTES
from coterie.run.names import BASE_FILE, EXAMPLE_TEXTS_FILE, EXAMPLES_FILE
from coterie.run.reporting import read_reports
from coterie.run.values import labels_of, partition_of, weight_bytes
from coterie.system.cache import cache_folder
from coterie.system.json_text import to_json

if TYPE_CHECKING:
    from huggingface_hub import HfApi

PREFIX = "hub:"
CARD = "README.md"
# They show samples of the user's data.
KEPT_BACK = (REPORT, EXAMPLES_FILE, EXAMPLE_TEXTS_FILE)
# Seconds for the hub's first answer.
PATIENCE = 10
_COMMIT = re.compile("[0-9a-f]{40}")


def push_run(path: Path | str, name: str, *, private: bool | None = None) -> str:
    """Put a finished run on the hub, with a card that its report's figures fill.

    Samples of the data that the run holds for its report stay behind, and the report with them. The manifest goes with
    the settings, paths of the data among them.

    Args:
        path: the run folder.
        name: ``owner/name``, or a name of one's own; made where it is not there yet, and else a commit is added.
        private: whether a new one is seen by its owner alone; None: as the owner's account has it.

    Returns:
        The address of its page.

    Raises:
        ArtifactError: the run is unfinished or damaged, or the hub refuses, or cannot be reached.
        SettingsError: such a name is not allowed.
    """
    run = Run.open_complete(Path(path))
    run.check_whole()
    kept = {file: record for file, record in run.manifest.files.items() if file not in KEPT_BACK}
    manifest = run.manifest.model_copy(update={"files": kept})
    name = name.removeprefix(PREFIX)
    with _refusals(name):
        from huggingface_hub import CommitOperationAdd

        api = _api()
        full_name = api.create_repo(name, private=private, exist_ok=True).repo_id
        contents = {CARD: card_of(run, full_name).encode(), MANIFEST: to_json(manifest.model_dump(mode="json"))}
        operations = [CommitOperationAdd(file, content) for file, content in contents.items()]
        operations += [CommitOperationAdd(file, run.place(file)) for file in kept]
        api.create_commit(full_name, operations, commit_message=f"Run of coterie {coterie.__version__}")
        return f"{api.endpoint}/{full_name}"


def card_of(run: FinishedRun, name: str) -> str:
    """The model card of a run that has this name on the hub, as Markdown."""
    manifest = run.manifest
    return render_card(
        CardContent(
            name=name,
            modality=manifest.data.input.modality,
            about=manifest.data.about.rstrip(".") + ".",
            backbone=manifest.settings.backbone,
            labels=labels_of(manifest),
            partition=partition_of(manifest),
            test=read_reports(run)["test"],
            costs=manifest.costs,
            base_bytes=manifest.files[BASE_FILE].bytes,
            storage_bytes=weight_bytes(manifest),
            train_counts=manifest.train_counts,
            version=coterie.__version__,
            caution=caution_on(manifest.data, "test"),
        )
    )


def local_run(path: Path | str, note: Callable[[str], None] = warnings.warn) -> Path:
    """The folder of a run: the one given; of ``hub:NAME`` or ``hub:NAME@REVISION``, the one to which it is fetched.

    Where the hub cannot be reached, what was fetched last of NAME is taken, and ``note`` is told.

    Raises:
        ArtifactError: there is no such run on the hub, it wants a token, or the hub cannot be reached.
        SettingsError: such a name is not allowed.
    """
    text = path if isinstance(path, str) else path.as_posix()
    if not text.startswith(PREFIX):
        return Path(path)
    asked = text.removeprefix(PREFIX)
    name, _, revision = asked.partition("@")
    with _refusals(asked):
        from huggingface_hub.errors import HfHubHTTPError
        from huggingface_hub.utils import validate_repo_id

        validate_repo_id(name)  # which leads no name out of the folder
        place = cache_folder() / "hub" / name.replace("/", "--")
        if _COMMIT.fullmatch(revision) and _is_whole(place / revision):
            return place / revision
        api = _api()
        try:
            return _fetch(api, name, revision or None, place)
        except HfHubHTTPError:  # it can be reached
            raise
        except _of_connections():
            last = None if revision else _last(place)
            if last is None:
                raise
            note(f"{api.endpoint} cannot be reached: of {PREFIX}{name}, what was fetched last is taken, {last.name}")
            return last


def _fetch(api: HfApi, name: str, revision: str | None, place: Path) -> Path:
    """Fetch a commit to a folder of its own, from which nothing is ever deleted: others may be reading it."""
    found = api.model_info(name, revision=revision, files_metadata=True, timeout=PATIENCE)
    if not _COMMIT.fullmatch(found.sha or ""):  # it names a folder
        raise ArtifactError(f"{api.endpoint} names a commit of {name} that is none: {str(found.sha)[:60]!r}")
    folder = place / str(found.sha)
    if _is_whole(folder):
        return folder
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or ()}
    if MANIFEST not in sizes:
        raise ArtifactError(f"{PREFIX}{name} is not a coterie run: it has no {MANIFEST}")
    if sizes[MANIFEST] > MOST_BYTES:
        raise ArtifactError(f"{PREFIX}{name}: its {MANIFEST} has {sizes[MANIFEST]:,} bytes; at most {MOST_BYTES:,}")
    api.hf_hub_download(name, MANIFEST, revision=found.sha, local_dir=folder)
    files = Run.open_finished(folder).manifest.files
    _refuse_sizes(name, {file: record.bytes for file, record in files.items()}, sizes, place)
    api.snapshot_download(name, revision=found.sha, local_dir=folder, allow_patterns=list(files))
    return folder


def _refuse_sizes(name: str, said: Mapping[str, int], sizes: Mapping[str, int], place: Path) -> None:
    """Refuse what is damaged, or too large, before it is fetched."""
    for file, n_bytes in said.items():
        if sizes.get(file) != n_bytes:
            fault = f"{sizes[file]} bytes instead of {n_bytes}" if file in sizes else "missing"
            raise ArtifactError(f"{PREFIX}{name} is damaged: {file}: {fault}")
    room = shutil.disk_usage(place).free
    if sum(said.values()) > room:
        raise ArtifactError(f"{PREFIX}{name} has {sum(said.values()):,} bytes; {place} has room for {room:,}")


def _is_whole(folder: Path) -> bool:
    """Whether all files are there; their content is checked when they are read."""
    try:
        Run.open_complete(folder)
    except ArtifactError:
        return False
    return True


def _last(place: Path) -> Path | None:
    """The folder of the commit that was fetched last."""
    commits = sorted(place.glob(f"*/{MANIFEST}"), key=lambda file: file.stat().st_mtime, reverse=True)
    return next((file.parent for file in commits if _is_whole(file.parent)), None)


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(library_name="coterie", library_version=coterie.__version__)


def _of_connections() -> tuple[type[Exception], ...]:
    """Errors of the hub's HTTP library, whichever that is, and of the system: what its own error is derived from."""
    from huggingface_hub.errors import HfHubHTTPError

    return tuple(kind for kind in HfHubHTTPError.__bases__ if issubclass(kind, Exception))


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """What the client raises of a run of this name, as one sentence."""
    from huggingface_hub import constants, errors

    hub, token = constants.ENDPOINT, "log in by `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError as error:
        raise SettingsError(f"{PREFIX}{name}: no name on a hub: {first_line(error)}") from None
    except errors.RevisionNotFoundError as error:
        raise ArtifactError(f"{PREFIX}{name}: there is no such revision") from error
    except errors.GatedRepoError as error:
        raise ArtifactError(
            f"{PREFIX}{name} is for those alone whom its owner lets in: see {hub}/{name}, and {token}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ArtifactError(f"{hub} has no {name}, or shows it to some alone: {token}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        why = f"it wants a token that may do this: {token}" if status in (401, 403) else first_line(error)
        raise ArtifactError(f"{hub} refuses {name} (status {status}): {why}") from error
    except _of_connections() as error:
        raise ArtifactError(f"{hub} cannot be reached for {name}: {first_line(error)}") from error
