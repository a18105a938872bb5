"""What services say an answer took, as tokens of disjoint kinds. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from backends.base import ServiceTimes
from backends.types import Usage

MAX_TOKENS = 2**31 - 1
MAX_TIME_S = 1e6
TIMES = {
    "queue_s": "queue_time",
    "prompt_s": "prompt_time",
    "completion_s": "completion_time",
    "total_s": "total_time",
}
"""As Groq and Cerebras have them."""

CHARACTERS_PER_TOKEN = 4
"""Of English text, for prompts whose service does not count them."""


def disjoint(said: Mapping[str, Any]) -> Usage | None:
    """OpenAI's counts, which contain one another, as disjoint ones; None unless both are told.

    Half an account is none: zero in place of what is missing would be billed as if the service had counted it.
    """
    prompt, completion = count(said.get("prompt_tokens")), count(said.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    cached = min(prompt, _detail(said, "prompt_tokens_details", "cached_tokens"))
    reasoning = min(completion, _detail(said, "completion_tokens_details", "reasoning_tokens"))
    return Usage(prompt - cached, cached, completion - reasoning, reasoning)


def _detail(said: Mapping[str, Any], group: str, name: str) -> int:
    details = said.get(group)
    return (count(details.get(name)) or 0) if isinstance(details, dict) else 0


def shares(tokens: int, choices: int) -> list[int]:
    """Tokens of each choice where only their sum is told."""
    if not choices:
        return []
    each, over = divmod(tokens, choices)
    return [each + (place < over) for place in range(choices)]


def count(value: Any) -> int | None:
    """A number of tokens (12.0 is one, to services that know only one kind of number); None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != value // 1:
        return None
    return int(min(value, MAX_TOKENS))


def service_times(
    said: Mapping[str, Any], names: Mapping[str, str] = TIMES, per_second: float = 1.0
) -> ServiceTimes | None:
    """A service's own times out of `said`, by what it calls our fields; None where there are none."""
    told = {field: _seconds(said.get(name), per_second) for field, name in names.items()}
    return None if all(value is None for value in told.values()) else ServiceTimes(**told)


def mapping(value: Any) -> Mapping[str, Any]:
    """A service's object, or an empty one where it sent something else."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> Sequence[Any]:
    """A service's list, or an empty one."""
    return value if isinstance(value, list) else ()


def _seconds(value: Any, per_second: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value / per_second <= MAX_TIME_S:
        return None
    return value / per_second
