"""The base class of all groups of settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from coterie.errors import SettingsError

# Characters of a wrong value in a message.
SHOWN = 200


class Settings(BaseModel):
    """A frozen group of settings.

    Raises:
        SettingsError: a setting is unknown or not allowed; the message has one line for each.
    """

    # NaN is neither below nor above a bound, and would pass all of them.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_describe(type(self), error)) from None

    def given(self) -> dict[str, Any]:
        """The settings that were named, as nested plain values: the others have defaults, which may depend on these."""
        return self.model_dump(mode="json", exclude_unset=True)

    def marked(self, values: dict[str, Any]) -> Self:
        """The same settings, of which those in ``values``, nested plain values, count as named."""
        groups = {
            name: group.marked(values.get(name) or {})
            for name, group in self
            if isinstance(group, Settings) and isinstance(values.get(name) or {}, dict)
        }
        return cast("Self", type(self).model_construct(set(values), **{**dict(self), **groups}))


def merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` over ``defaults``, group by group: what sets ``specialist.epochs`` keeps the specialist's other
    defaults, which differ from those of the base although their class is the same.
    """
    found = dict(defaults)
    for name, value in values.items():
        before = defaults.get(name)
        found[name] = merged(before, value) if isinstance(before, dict) and isinstance(value, Mapping) else value
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _describe(cls: type[BaseModel], error: ValidationError) -> str:
    """One line per wrong setting: its name, the value given, what is allowed."""
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown setting {name[:SHOWN]!r}; allowed here: {', '.join(cls.model_fields)}")
        elif not name:  # of several settings together, which the message names
            lines.append(item["msg"].removeprefix("Value error, "))
        else:
            lines.append(f"{name} = {_shown(item['input'])}: {item['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
