"""One request as vLLM would have timed and counted it, from the events of its generation."""

from __future__ import annotations

from dataclasses import dataclass

from app.emulate.metrics import VllmMetrics
from backends.clock import Clock
from backends.emulator.backend import EmulatedGeneration
from backends.types import ChoiceEnd, Event, TokenChunk, Usage


@dataclass(slots=True)
class _Choice:
    first_ns: int
    last_ns: int
    tokens: int = 0
    untimed: int = 0


class Watch:
    """Sees each event as it comes and the end once; everything is counted when it happens, as an engine would.

    Tokens that arrive together are spread evenly over the time since the one before. When a prompt left the queue is
    the engine's own account (`EmulatedGeneration.timing_of`).
    """

    def __init__(self, metrics: VllmMetrics, clock: Clock, generation: EmulatedGeneration) -> None:
        self._metrics = metrics
        self._clock = clock
        self._generation = generation
        self._arrived_ns = clock.now_ns()
        self._counted = Usage()
        self._choices: dict[int, _Choice] = {}

    def saw(self, event: Event) -> None:
        """An event, at the moment it came."""
        now_ns = self._clock.now_ns()
        if type(event) is TokenChunk:
            self._tokens(event, now_ns)
        elif type(event) is ChoiceEnd:
            self._ended(event.index, self._choices.pop(event.index), event.reason)
        self._count()

    def over(self) -> None:
        """The generation is closed; what had not ended was aborted."""
        self._count()
        for _ in self._choices:
            self._metrics.finished("abort")
        self._choices.clear()

    def _tokens(self, event: TokenChunk, now_ns: int) -> None:
        metrics, choice = self._metrics, self._choices.get(event.index)
        if choice is None:
            choice = self._choices[event.index] = _Choice(now_ns, now_ns, event.tokens, event.tokens - 1)
            metrics.ttft.observe(metrics.labels, (now_ns - self._arrived_ns) / 1e9)
            return
        tokens = event.tokens + choice.untimed
        gap_s = (now_ns - choice.last_ns) / 1e9 / tokens
        metrics.inter_token.observe(metrics.labels, gap_s, tokens)
        metrics.time_per_token.observe(metrics.labels, gap_s, tokens)
        choice.tokens += event.tokens
        choice.untimed = 0
        choice.last_ns = now_ns

    def _ended(self, index: int, choice: _Choice, reason: str) -> None:
        metrics, labels = self._metrics, self._metrics.labels
        scheduled_ns = self._generation.timing_of(index).scheduled_ns
        assert scheduled_ns is not None
        for histogram, start_ns, end_ns in (
            (metrics.e2e, self._arrived_ns, choice.last_ns),
            (metrics.queue, self._arrived_ns, scheduled_ns),
            (metrics.prefill, scheduled_ns, choice.first_ns),
            (metrics.decode, choice.first_ns, choice.last_ns),
            (metrics.inference, scheduled_ns, choice.last_ns),
        ):
            histogram.observe(labels, (end_ns - start_ns) / 1e9)
        if choice.tokens > 1:
            per_token_s = (choice.last_ns - choice.first_ns) / 1e9 / (choice.tokens - 1)
            metrics.request_time_per_token.observe(labels, per_token_s)
        metrics.request_prompt.observe(labels, self._generation.prompt_tokens_of(index))
        metrics.request_generation.observe(labels, choice.tokens)
        metrics.finished(reason)

    def _count(self) -> None:
        """Add what the engine has done since the last count."""
        metrics, labels, before, now = self._metrics, self._metrics.labels, self._counted, self._generation.usage()
        read = now.prompt_tokens + now.cached_tokens - before.prompt_tokens - before.cached_tokens
        metrics.prompt_tokens.add(labels, read)
        metrics.generation_tokens.add(labels, now.completion_tokens - before.completion_tokens)
        self._counted = now
