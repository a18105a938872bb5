"""What differs between two configurations, and what of it can only change with a restart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel

from app.config.load import LoadedConfig, redacted, to_spec
from app.config.models import BackendConfig

RESTART: Mapping[str, tuple[str, ...]] = {
    "server": ("host", "port", "admin_host", "admin_port", "drain_delay_s", "drain_timeout_s"),
    "ledger": ("path", "flush_interval_s", "batch_rows", "queue_rows"),
}
"""Sockets and files that are open: keys by section."""


NAMED = ("backends", "models", "aliases", "slo", "policies")
"""Sections of things with names: what came or went there is told by name."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Names that came, went, or mean something else now."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def plain(self) -> dict[str, list[str]]:
        """As JSON."""
        return {"added": list(self.added), "removed": list(self.removed), "changed": list(self.changed)}


@dataclass(frozen=True, slots=True)
class Changes:
    """`backends` by name; a changed one is built anew if it is in `rebuilt`, else it only has another price or is
    drained or not. `named` are the other sections whose keys are names, `keys` the settings of the others."""

    before: str
    after: str
    backends: Differences
    rebuilt: tuple[str, ...]
    named: Mapping[str, Differences] = field(default_factory=dict)
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    datasheets: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.backends or self.rebuilt or self.datasheets or any(self.keys.values())) or any(
            self.named.values()
        )

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "changed": bool(self),
            "from": self.before,
            "config": self.after,
            "backends": {**self.backends.plain(), "rebuilt": list(self.rebuilt)},
            **{section: differences.plain() for section, differences in self.named.items()},
            **{section: list(keys) for section, keys in self.keys.items()},
            "datasheets": list(self.datasheets),
        }


def compare(old: LoadedConfig, new: LoadedConfig) -> Changes:
    """`refused` are problems, as `check` words them, of keys that cannot change while the gateway runs."""
    before, after = old.config, new.config
    backends = _differences({each.name: each for each in before.backends}, {each.name: each for each in after.backends})
    rebuilt = tuple(
        each.name
        for each in after.backends
        if each.name not in backends.added and not same_backend(old, new, each.name)
    )
    keys: dict[str, tuple[str, ...]] = {}
    named: dict[str, Differences] = {}
    for section in type(after).model_fields:
        one, other = getattr(before, section), getattr(after, section)
        if isinstance(other, BaseModel):
            keys[section] = tuple(_keys(one, other))
        elif isinstance(other, dict):
            named[section] = _differences(one, other)
    refused = [
        new.problem(
            (section, key),
            f"cannot change without a restart (it is {_shown(getattr(before, section), key)}, "
            f"{_shown(getattr(after, section), key)} is asked for)",
        )
        for section, fixed in RESTART.items()
        for key in keys[section]
        if key in fixed
    ]
    sheets = (*_changed(old.sheets.chips, new.sheets.chips), *_changed(old.sheets.models, new.sheets.models))
    return Changes(old.hash, new.hash, backends, rebuilt, named, keys, sheets, tuple(refused))


def lines(plain: Mapping[str, Any]) -> list[str]:
    """What differs, for people, of `Changes.plain()` or what came of it as JSON: a line for each kind of thing."""
    told: list[str] = []
    for section, what in plain.items():
        if isinstance(what, Mapping):
            told += [f"  {section} {how}: {', '.join(names)}" for how, names in what.items() if names]
        elif isinstance(what, list) and what and section != "warnings":
            told.append(f"  {section}: {', '.join(what)}")
    return told


class Setting(NamedTuple):
    """One setting that differs: where it stands, and both values as JSON; null where a side has none."""

    path: str
    old: Any
    new: Any


def settings(old: LoadedConfig, new: LoadedConfig) -> list[Setting]:
    """Every setting that differs of what both sides have, without secrets; what came or went is named as a whole."""
    return list(_settings("", redacted(old.config), redacted(new.config)))


def _settings(path: str, old: Any, new: Any) -> Iterator[Setting]:
    one, other = _named(old), _named(new)
    if one is None or other is None:
        if old != new:
            yield Setting(path, old, new)
        return
    for name in {**one, **other}:
        if name in one and name in other:
            yield from _settings(f"{path}.{name}" if path else name, one[name], other[name])
        elif path not in NAMED:
            yield Setting(f"{path}.{name}" if path else name, one.get(name), other.get(name))


def _named(value: Any) -> Mapping[str, Any] | None:
    """A mapping, or a list of things with names by name; None = a value."""
    if isinstance(value, list) and value and all(isinstance(each, dict) and "name" in each for each in value):
        return {each["name"]: each for each in value}
    return value if isinstance(value, dict) else None


def same_backend(old: LoadedConfig, new: LoadedConfig, name: str) -> bool:
    """Whether a backend may run on: the same in everything it is built from, its datasheets included."""
    one, other = _backend(old, name), _backend(new, name)
    if one is None or other is None or to_spec(one) != to_spec(other):
        return False
    models = [each.model for each in one.deployments]
    return old.sheets.chips.get(one.chip or "") == new.sheets.chips.get(one.chip or "") and all(
        old.sheets.models.get(model) == new.sheets.models.get(model) for model in models
    )


def _backend(loaded: LoadedConfig, name: str) -> BackendConfig | None:
    return next((each for each in loaded.config.backends if each.name == name), None)


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Differences:
    return Differences(
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name in old and old[name] != new[name]),
    )


def _changed(old: Mapping[str, object], new: Mapping[str, object]) -> Iterable[str]:
    return sorted(name for name in {**old, **new} if old.get(name) != new.get(name))


def _keys(old: BaseModel, new: BaseModel) -> Iterable[str]:
    """Names of the settings that differ; of a section of another type, all it has."""
    names = {**dict.fromkeys(type(old).model_fields), **dict.fromkeys(type(new).model_fields)}
    return (name for name in names if getattr(old, name, None) != getattr(new, name, None))


def _shown(section: BaseModel, key: str) -> str:
    return str(getattr(section, key))
