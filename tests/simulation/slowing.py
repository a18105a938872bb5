"""Silicon that becomes slower in the middle of a run, and well again.

The shipped fault `slow` stretches an answer on its way out of a server whose engine goes on at its usual pace. Here the
engine itself is slow: every step takes longer, so that queues and batches grow with it, as on a chip that throttles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from app.replay.formats import Arrival
from app.replay.stage import Server
from backends.emulator.pace import StepPhysics
from backends.emulator.traits import Read


class Slowed:
    """The physics of a deployment, every step `factor` times as long."""

    def __init__(self, physics: StepPhysics, factor: float) -> None:
        self.usual, self._factor = physics, factor

    @property
    def kv_room_tokens(self) -> int:
        """As before."""
        return self.usual.kv_room_tokens

    @property
    def max_sequences(self) -> int:
        """As before."""
        return self.usual.max_sequences

    def step_s(self, lanes: int, context_tokens: int, reads: Sequence[Read] = ()) -> float:
        """Seconds for one step."""
        return self._factor * self.usual.step_s(lanes, context_tokens, reads)

    def decode_line(self, lanes: int, context_tokens: int) -> tuple[float, float]:
        """(seconds, seconds per token of context) of a step that reads no prompt."""
        base_s, per_token_s = self.usual.decode_line(lanes, context_tokens)
        return self._factor * base_s, self._factor * per_token_s


def slow(server: Server, factor: float) -> None:
    """From the next step on a server's engine takes `factor` times what its physics says (1 = it is well again)."""
    pace = server.engine._pace
    usual = pace.physics.usual if isinstance(pace.physics, Slowed) else pace.physics
    pace.physics = usual if factor == 1.0 else Slowed(usual, factor)


def with_events(arrivals: Sequence[Arrival], events: Mapping[float, Callable[[], None]]) -> Iterator[Arrival]:
    """The arrivals; each event happens before the first one that comes at its time (s) or later."""
    left = sorted(events)
    for arrival in arrivals:
        while left and arrival.at_s >= left[0]:
            events[left.pop(0)]()
        yield arrival
    assert not left, f"the run ended before {left}"
