"""Frozen values that cross the line between the gateway and the silicon.

Invariants: token kinds are disjoint (`prompt_tokens` never contains `cached_tokens`); times are integer
nanoseconds where they are summed and float seconds where they are predicted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]
Endpoint = Literal["chat", "completion", "embedding"]
PROMPT_FIELDS: Mapping[Endpoint, str] = {"chat": "messages", "completion": "prompt", "embedding": "input"}
"""Where a request has its prompt."""

Substrate = Literal["maia", "groq", "tpu", "trainium", "gpu", "cerebras", "hosted", "local"]
Capability = Literal["tools", "json_schema", "vision", "logprobs", "n", "embeddings", "completions"]
"""What a request may need. `completions` is not declared: it follows from what a service's wire has an address for."""

PrefillMode = Literal["serial", "shared", "parallel"]

STRAIGHT_PROMPT_TOKENS = 2048
"""Up to this many tokens a prompt's reading time is taken as a straight line."""

REFERENCE_CONTEXT_TOKENS = 1500
"""Prompt and half an answer of a typical chat request: what slots are sized for and decode pace is stated at."""


NO_HEADERS: Mapping[str, str] = {}


class GenerationRequest(NamedTuple):
    """One prompt (or several, for /v1/completions) as a backend is asked to answer it.

    `body` is the client's own JSON, for backends that pass it on; emulated backends read only the parsed
    fields. Choices are numbered prompt-major: choice `i * n + j` is the j-th answer to `prompts[i]`.
    `max_tokens` is per choice; None means as long as the model likes, within its context. A request of higher
    `priority` leaves a backend's queue sooner. `warm_up_s` is how much longer than usual its answer may take, because
    the backend is expected to be warming up. `needs` are capabilities without which it cannot be answered, `headers`
    the client's own that a service may get, if its backend lets them through.
    """

    request_id: str
    endpoint: Endpoint
    model: str
    prompts: tuple[str, ...]
    max_tokens: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0
    min_tokens: int = 0
    ignore_eos: bool = False
    stream: bool = False
    body: bytes = b""
    priority: int = 0
    warm_up_s: float = 0.0
    needs: frozenset[Capability] = frozenset()
    headers: Mapping[str, str] = NO_HEADERS

    @property
    def choices(self) -> int:
        return len(self.prompts) * self.n


class ToolCallPart(NamedTuple):
    """The call whose arguments a chunk's text is a piece of. `place` counts the calls of one answer from 0."""

    place: int
    call_id: str
    name: str


class Thought(NamedTuple):
    """Says that a chunk's text was thought before the answer. A signature, which some services want back with it, comes
    once, in a chunk after the text."""

    signature: str = ""


@dataclass(frozen=True, slots=True)
class TokenChunk:
    """Text of one choice as it appears; `tokens` is how many tokens it holds, as far as that is told (at least 1). For
    embeddings it is the vector: base64 of little-endian 32-bit floats.

    `raw` is what a real service sent for it, ready to be passed on: whole SSE frames of a stream, the whole body of an
    answer in one piece. None = nothing to pass on, the writer makes its own; b"" = it went with an earlier event.
    `plain` says that `text` is all there is; tool calls, reasoning or log-probabilities are only in `raw`, where there
    is one. A chunk without it may have a `tool` or a `thought`: `text` then is arguments or reasoning, not an answer.
    """

    index: int
    text: str
    tokens: int
    raw: bytes | None = None
    plain: bool = True
    tool: ToolCallPart | None = None
    thought: Thought | None = None


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """A choice is complete; no further chunk carries its index. `raw` as of a `TokenChunk`; `stop` is the stop sequence
    that ended it, where that is told."""

    index: int
    reason: FinishReason
    raw: bytes | None = None
    stop: str | None = None


Event = TokenChunk | ChoiceEnd


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by disjoint kind: `prompt_tokens` is the uncached part of the prompt.

    `estimated` where a real service did not say, and chunks and characters were counted instead.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.cached_tokens + self.completion_tokens + self.reasoning_tokens


@dataclass(frozen=True, slots=True)
class EngineShare:
    """Busy engine time that one request is answerable for, in integer nanoseconds.

    Each engine step's duration is split among the tokens it served, by largest remainder, so that the
    shares of all requests add up to the engine's busy time exactly.
    """

    prompt_ns: int = 0
    completion_ns: int = 0

    @property
    def total_ns(self) -> int:
        return self.prompt_ns + self.completion_ns


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """What a router may assume of a deployment before it has observed anything.

        TTFT = network_s + overhead_s + prefill_s_per_token * uncached_tokens + wait
               + prefill_s_per_token_pair * tokens * (tokens - 2,048)  of prompts longer than that: attention
        TPOT = decode_base_s + decode_s_per_sequence * sequences_in_flight
               + decode_s_per_context_token * (context tokens of these - 1,500 * sequences_in_flight)

    `max_sequences` is how many sequences decode together; more must wait. `prefill` says how concurrent
    prompts share the engine: `serial` (one after the other), `shared` (chunks interleaved with decode),
    `parallel` (each on its own lane, so that queued prompt tokens do not add up). `kv_tokens` is how many tokens of
    context there is room for between all sequences, None where that is not known. `prefix_cache` says whether the
    beginning of a prompt it has read of late need not be read again. A step reads at most `step_tokens` of prompts
    (None = however many there are), and who comes while it runs joins the next one, or `lag_steps` later where the
    scheduler works ahead.
    """

    overhead_s: float
    prefill_s_per_token: float
    decode_base_s: float
    decode_s_per_sequence: float
    max_sequences: int
    prefill: PrefillMode
    network_s: float = 0.0
    decode_s_per_context_token: float = 0.0
    kv_tokens: int | None = None
    prefix_cache: bool = False
    step_tokens: int | None = None
    lag_steps: int = 0
    prefill_s_per_token_pair: float = 0.0

    def tpot_s(self, sequences: float) -> float:
        """Seconds per output token when `sequences` of 1,500 tokens of context decode together."""
        return self.decode_base_s + self.decode_s_per_sequence * min(sequences, self.max_sequences)


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """A model on a backend: what it can take and how fast it is expected to be.

    `calibration` is `calibrated` where constants were fitted to published measurements of this chip and
    `uncalibrated` where they were not; `assumptions` lists every figure that no public source states.
    """

    model: str
    precision: str
    context_tokens: int
    profile: LatencyProfile
    capabilities: frozenset[Capability] = frozenset({"n"})
    calibration: Literal["calibrated", "uncalibrated"] = "uncalibrated"
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PowerEstimate:
    """Watts that a whole group of chips is estimated to draw, at work and idle."""

    busy_w: float
    idle_w: float

    def energy_j(self, busy_ns: int, idle_ns: int = 0) -> float:
        """Joules over so much busy and idle engine time."""
        return (self.busy_w * busy_ns + self.idle_w * idle_ns) / 1e9


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What is fixed about a backend for as long as a configuration lives.

    `chip` None means that nobody says what a live service runs on; `power` None that nobody has published what such
    chips draw. `endpoints` are what it has an address for.
    """

    name: str
    substrate: Substrate
    mode: Literal["emulated", "live"]
    chip: str | None
    chips: int | None
    deployments: Mapping[str, DeploymentInfo]
    power: PowerEstimate | None = None
    endpoints: frozenset[Endpoint] = frozenset({"chat", "completion", "embedding"})


@dataclass(frozen=True, slots=True)
class BackendSnapshot:
    """What a backend reports of itself at one moment.

    `busy_ns` (summed over engine steps) and `idle_ns` (summed over the gaps between them, by a clock of
    its own) are measured independently; together they make up the time since start. `preemptions` (jobs that lost their
    KV and had to be read again) and the prefix cache's tokens (looked up, found) count from start, as vLLM's do.
    """

    running: int = 0
    waiting: int = 0
    kv_used_ratio: float = 0.0
    busy_ns: int = 0
    idle_ns: int = 0
    preemptions: int = 0
    prefix_queries_tokens: int = 0
    prefix_hits_tokens: int = 0


@dataclass(frozen=True, slots=True)
class DeploymentSpec:
    """What the configuration asks a backend to serve.

    `context_tokens` None means the model's own limit. `kv_precision` None means the model's activations'
    usual one for the given `precision`, `software` None the chip's default serving software.
    """

    model: str
    precision: str
    context_tokens: int | None = None
    kv_precision: str | None = None
    software: str | None = None


@dataclass(frozen=True, slots=True)
class EmulationSpec:
    """How an emulated engine behaves beyond its physics.

    `prefill_noise` and `decode_noise` are the sigma of the seeded lognormal factor on each step's time.
    `max_sequences` None takes the chip's own; `max_waiting` bounds the queue, past it a request is refused.
    `prefix_cache` False turns it off where the substrate has one.
    """

    seed: int = 0
    prefill_noise: float = 0.08
    decode_noise: float = 0.05
    max_sequences: int | None = None
    max_waiting: int = 1024
    prefix_cache: bool = True


@dataclass(frozen=True, slots=True)
class ColdStart:
    """A server that is scaled to zero while nobody needs it.

    Asked while cold, it takes `warm_up_s` before it begins to work; it is cold again when nobody has used it for
    `idle_after_s` (None = it stays warm). `starts` says how it is before anybody has asked.
    """

    warm_up_s: float
    idle_after_s: float | None = None
    starts: Literal["cold", "warm"] = "cold"

    def left_ns(self, warm_ns: int | None, used_ns: int | None, now_ns: int) -> int:
        """How much warming up is left for who asks now: all of it if it is cold, none if it is warm.

        It is (or was) warm from `warm_ns` on (None = cold, nobody has asked), and has been used by nobody since
        `used_ns` (None = it is in use).
        """
        whole_ns = round(self.warm_up_s * 1e9)
        if warm_ns is None:
            return whole_ns
        if now_ns < warm_ns:
            return warm_ns - now_ns
        if self.idle_after_s is None or used_ns is None:
            return 0
        return whole_ns if now_ns - max(warm_ns, used_ns) >= self.idle_after_s * 1e9 else 0


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """One configured backend, as the registry builds it."""

    name: str
    kind: str
    chip: str
    chips: int
    deployments: tuple[DeploymentSpec, ...]
    emulation: EmulationSpec = field(default_factory=EmulationSpec)
    cold_start: ColdStart | None = None


@dataclass(frozen=True, slots=True)
class LiveDeploymentSpec:
    """A model on a live backend. `upstream_model` is what the service calls it; None = the same.

    `precision` is needed where latency is forecast from a chip's datasheet, `context_tokens` where the model has none.
    """

    model: str
    upstream_model: str | None = None
    precision: str | None = None
    kv_precision: str | None = None
    context_tokens: int | None = None
    capabilities: frozenset[Capability] = frozenset({"n"})


@dataclass(frozen=True, slots=True)
class LiveTimeouts:
    """Seconds to wait for a connection, for the first byte of a stream, for each byte after it, for all of a stream
    (None: as long as it goes on), and for an answer that is not streamed, whose first byte comes when it is done."""

    connect_s: float = 5.0
    first_byte_s: float = 60.0
    idle_s: float = 60.0
    whole_s: float = 600.0
    stream_s: float | None = None
    drain_s: float = 0.0
    """How long a stream that nobody wants any more is read on, for its usage and its connection; 0 = it is cut off."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A model's process on this machine; `weights` is a GGUF file, None = the small model that `make local` installs.
    `context_tokens` is of each slot; up to `max_waiting` requests wait for one."""

    threads: int = 1
    slots: int = 2
    context_tokens: int = 4096
    weights: str | None = None
    max_waiting: int = 16


@dataclass(frozen=True, slots=True)
class LiveSpec:
    """One configured real service, as the registry builds it.

    `dialect` None = the kind's default. What is expected of it before it has been observed is `profile`, or follows
    from `chip` and `chips`. With a `server` it is a process of the gateway's own, and `url` says nothing.
    """

    name: str
    kind: str
    url: str
    deployments: tuple[LiveDeploymentSpec, ...]
    api_key: str | None = field(default=None, repr=False)
    dialect: str | None = None
    api_version: str | None = None
    aws: tuple[str | None, str | None, str | None, str | None] | None = field(default=None, repr=False)
    """Region, access key id, secret access key and session token."""

    chip: str | None = None
    chips: int | None = None
    profile: LatencyProfile | None = None
    timeouts: LiveTimeouts = LiveTimeouts()
    max_connections: int = 1024
    server: LocalServer | None = None
    forward_headers: frozenset[str] = frozenset()
