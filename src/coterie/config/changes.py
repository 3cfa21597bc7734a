"""In what two runs' settings differ."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from coterie.config.fit import FREE_SETTINGS, FitSettings


def changed_settings(old: FitSettings, new: FitSettings, groups: Container[str] | None = None) -> list[str]:
    """Settings that differ and decide what comes out, as ``name: old -> new``; of all groups, or of some."""
    lines = differences(old.to_values(), new.to_values())
    return [
        line
        for line in lines
        if not line.startswith(FREE_SETTINGS) and (groups is None or line.partition(":")[0].partition(".")[0] in groups)
    ]


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Settings whose values differ, as ``name: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys((*old, *new)))
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]
    return [] if old == new else [f"{name}: {old!r} -> {new!r}"]
