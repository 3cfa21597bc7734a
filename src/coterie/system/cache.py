"""The folder for what can be fetched or computed again."""

from __future__ import annotations

import os
from pathlib import Path

from coterie.errors import ArtifactError


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/coterie``, or ``~/.cache/coterie``: for downloads and sentence embeddings.

    Raises:
        ArtifactError: neither is known, as for a user of a container who has no home folder.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coterie"
    except RuntimeError:
        raise ArtifactError("there is no home folder: set XDG_CACHE_HOME to a folder for what is kept") from None
