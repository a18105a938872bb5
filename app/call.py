"""One client request, whatever wire format it came in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from backends.types import Capability, Endpoint

CacheMode = Literal["on", "off", "only", "refresh"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a client asked for in headers. Times in seconds; None = not asked."""

    slo_ttft_s: float | None = None
    slo_tpot_s: float | None = None
    slo_e2e_s: float | None = None
    policy: str | None = None
    max_cost_usd: float | None = None
    cache: CacheMode = "on"
    max_age_s: float | None = None
    """How old a cached answer may be."""

    tags: Mapping[str, str] | None = None
    debug: bool = False
    dry_run: bool = False
    session: str | None = None
    headers: Mapping[str, str] | None = None
    """Those that some service is to get, by names in lower case."""


NO_OPTIONS = Options()

FIELDS = {"json_schema": "response_format", "vision": "messages", "embeddings": "model", "completions": "model"}
"""The request's field that asks for a capability, where it is not called the same."""


class Call(NamedTuple):
    """A parsed request.

    A tuple, as all values made for every request are: a frozen dataclass of 18 fields takes 3 us to build.
    """

    request_id: str
    endpoint: Endpoint
    model: str
    prompts: tuple[str, ...]
    body: bytes
    started_ns: int
    options: Options = NO_OPTIONS
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop: tuple[str, ...] = ()
    seed: int | None = None
    temperature: float | None = None
    stream: bool = False
    capabilities: frozenset[Capability] = frozenset()
    tenant: str = "default"
    priority: int = 0
    user: str | None = None

    @property
    def choices(self) -> int:
        return len(self.prompts) * self.n

    @property
    def deterministic(self) -> bool:
        """Whether the client asked for an answer that does not vary: temperature 0, or a seed."""
        return self.temperature == 0 or self.seed is not None


Fields = Mapping[str, Any]
