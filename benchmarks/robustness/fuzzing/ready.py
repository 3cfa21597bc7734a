"""A process to fork: one that has imported everything, and runs no threads."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import tempfile
from pathlib import Path

# Imported once, before processes are forked: each takes seconds.
HEAVY = ("datasets", "pyarrow.parquet", "sklearn.cluster", "torch", "torchvision")


def prepare(folder: Path, more: tuple[str, ...] = ()) -> None:
    """Import all of coterie, and ``more``; caches go to the folder."""
    caches = {name: str(folder / "cache" / name) for name in ("XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR", "TMPDIR")}
    for place in caches.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    os.environ.update(caches, HF_HUB_OFFLINE="1")
    tempfile.tempdir = caches["TMPDIR"]
    import coterie

    modules = [found.name for found in pkgutil.walk_packages(coterie.__path__, "coterie.")]
    for module in (*HEAVY, *more, *(name for name in modules if name.rpartition(".")[2].strip("_") != "main")):
        importlib.import_module(module)


def n_threads() -> int:
    """Of this process; memory that pyarrow's allocator gives back takes one."""
    return len(list(Path("/proc/self/task").iterdir()))


def settle(threads: int) -> None:
    """Ready to be forked: a collection in a forked process does not copy all pages.

    Raises:
        SystemExit: there are more threads than there were.
    """
    gc.collect()
    gc.freeze()
    if n_threads() > threads:
        raise SystemExit("a process whose commands left threads cannot be forked: set OMP_NUM_THREADS=1")
