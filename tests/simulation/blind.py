"""What the best of routers could foretell: everything about an engine but the noise of the step it is in.

The engine's own forecast (`backends.emulator.fork`) keeps the time that the step in progress was given, noise and all.
Nobody outside can know that before the step has ended. Here it takes what the physics say, and if that has passed, it
ends now.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.emulator.engine import Engine
from backends.emulator.fork import Fate, forecast, fork


def foretold(
    engine: Engine, now_ns: int, prompt_tokens: int, lengths: Sequence[int], prefix: Sequence[int] | None
) -> Fate:
    """As `forecast`, for a router that knows the physics, the queue and all lengths; `engine` is left as it is."""
    return forecast(_expected(fork(engine), now_ns), now_ns, prompt_tokens, lengths, prefix)


def _expected(engine: Engine, now_ns: int) -> Engine:
    """The same (a fork, without noise to come) with the step in progress as expected."""
    if engine._end_ns is None:
        return engine
    segment, batch, pace = engine._segment, engine._batch, engine._pace
    lanes, context_tokens = (batch.lanes, batch.context_tokens) if engine._decoding else (0, 0)
    if engine._chunks:
        reads = [(job.position, tokens) for job, tokens in zip(engine._prefilling, engine._chunks, strict=False)]
        step_ns = float(pace.mixed(lanes, context_tokens, reads))
        engine._end_ns = segment.plan(segment.start_ns, max(step_ns, now_ns + 1.0 - segment.start_ns), 0.0, 1)
        return engine
    left = segment.steps - segment.done
    first_ns, slope_ns = pace.decode(lanes, context_tokens, left)
    if segment.anchor_ns + first_ns > now_ns:
        engine._end_ns = segment.plan(segment.anchor_ns, first_ns, slope_ns, left)
    return engine
