"""A faults file: YAML or JSON, validated strictly, every problem with its position.

seed: 7
rules:
  - {kind: http_error, status: 429, retry_after_s: 1.5, share: 0.1}
  - {kind: slow, factor: 3, from_s: 60, until_s: 120}
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from app.config import validate
from app.config.section import Section
from app.config.source import parse
from app.errors import ConfigError
from backends.emulator.faults import Fault, FaultPlan, Rule

Seconds = Annotated[float, Field(ge=0, le=86_400)]
Chunks = Annotated[int, Field(ge=0, le=1_000_000)]


class _Rule(Section):
    """What every rule may say: which share of requests, and when (seconds since the plan was set)."""

    share: float = Field(default=1.0, gt=0, le=1)
    from_s: Seconds = 0.0
    until_s: Seconds | None = None

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError("until_s must be after from_s")
        return self


class Refuse(_Rule):
    """The connection is closed without an answer."""

    kind: Literal["refuse"]


class HttpError(_Rule):
    """An error status, with Retry-After if asked."""

    kind: Literal["http_error"]
    status: int = Field(default=503, ge=400, le=599)
    retry_after_s: Seconds | None = None


class Hang(_Rule):
    """Nothing more for `hang_s` (without it: ever) after some chunks; after none, no first byte."""

    kind: Literal["hang"]
    hang_s: Seconds | None = None
    after_chunks: Chunks = 0


class Drip(_Rule):
    """Bytes trickle."""

    kind: Literal["drip"]
    chunk_bytes: int = Field(default=16, ge=1, le=1_000_000)
    pause_s: Seconds = 0.05


class Cut(_Rule):
    """The connection is closed midway."""

    kind: Literal["cut"]
    after_chunks: Chunks = 1


class Malformed(_Rule):
    """A chunk is broken JSON."""

    kind: Literal["malformed"]
    after_chunks: Chunks = 1


class MissingUsage(_Rule):
    """The answer does not say what it took."""

    kind: Literal["missing_usage"]


class WrongContentType(_Rule):
    """200, but HTML."""

    kind: Literal["wrong_content_type"]


class Slow(_Rule):
    """Everything takes `factor` times as long."""

    kind: Literal["slow"]
    factor: float = Field(default=2.0, gt=1, le=1000)


AnyRule = Annotated[
    Refuse | HttpError | Hang | Drip | Cut | Malformed | MissingUsage | WrongContentType | Slow,
    Field(discriminator="kind"),
]


class FaultsFile(Section):
    """Rules in order of precedence: the first that applies to a request decides."""

    seed: int = 0
    rules: tuple[AnyRule, ...] = ()

    def plan(self) -> FaultPlan:
        """As the emulator takes it."""
        return FaultPlan(tuple(_rule(rule) for rule in self.rules), self.seed)


_ADAPTER = TypeAdapter(FaultsFile)
_WINDOW = frozenset(_Rule.model_fields)


def load(path: Path) -> FaultsFile:
    """Raises: ConfigError with every problem as `file:line:column: path: message`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}:1:1: cannot be read: {error}"]) from None
    return read(text, str(path))


def read(text: str, file: str) -> FaultsFile:
    """A plan from its text; nothing is taken from the environment.

    Raises: ConfigError.
    """
    source = parse(text, file, {})
    if not isinstance(source.data, dict):
        raise ConfigError([*source.problems, f"{source.at(())}: the document must be a mapping with `rules`"])
    found = validate.typed(_ADAPTER, source.data, source, keys=_keys)
    if found is None or source.problems:
        raise ConfigError(source.problems)
    return found


def _rule(rule: AnyRule) -> Rule:
    return Rule(Fault(**rule.model_dump(exclude=set(_WINDOW))), rule.share, rule.from_s, rule.until_s)


def _keys() -> Sequence[str]:
    kinds = (Refuse, HttpError, Hang, Drip, Cut, Malformed, MissingUsage, WrongContentType, Slow)
    return sorted({name for kind in (FaultsFile, *kinds) for name in kind.model_fields})
