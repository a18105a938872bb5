"""What the engine works on: a job is a prompt with the answers that will be given to it, a lane is one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from backends.emulator.chain import Chain
from backends.emulator.prefix_cache import Run

OUT_OF_BATCH = -1


class Timing(NamedTuple):
    """When things happened to a request, in the engine's nanoseconds; None = not yet.

    queued_ns        it was submitted
    scheduled_ns     it was first given a slot (vLLM: the end of its queue time)
    first_token_ns   its first token was out
    last_token_ns    its latest known last token was out: final once it has ended, cancelled or not
    """

    queued_ns: int
    scheduled_ns: int | None
    first_token_ns: int | None
    last_token_ns: int | None


class Asked(NamedTuple):
    """What a generation wants of the engine: a prompt, its answers, and its blocks' names for the prefix cache."""

    prompt_tokens: int
    lengths: Sequence[int]
    prefix: Sequence[int] | None


class Lane:
    """One answer being decoded. It does not know its job, so that jobs go as soon as nobody holds them.

    In the batch it has made `decode count - joined + 1` tokens and ends when that count reaches `end`; out of it,
    before, between and after, `end` is `OUT_OF_BATCH` and `produced` says how many.
    """

    __slots__ = ("end", "index", "joined", "length", "produced", "share_from")

    def __init__(self, index: int, length: int) -> None:
        self.index = index
        self.length = length
        self.joined = 0
        self.end = OUT_OF_BATCH
        self.share_from = 0
        self.produced = 0


class Job:
    """A prompt with the lengths of its answers (all at least 1).

    `lanes` are those not finished, `lanes_made` all of them, once the prompt is read; `width` says how many answers
    are not finished, which is how many slots the job takes. `prefilled` is how far the prompt has been read, tokens
    found in the prefix cache (`cached_tokens`) included; it never goes back, while `position` of `target` is what this
    admission has read: after a preemption prompt and answers so far are read again.
    `blocks` are KV blocks of its own; `shared_blocks` it uses through the prefix cache, `run` being the last of them.
    """

    __slots__ = (
        "blocks", "cached_tokens", "completion_ns", "ended_ns", "first_token_ns", "lanes", "lanes_made",
        "last_token_ns", "lengths", "position", "preemptions", "prefilled", "prefix", "priority", "prompt_ns",
        "prompt_tokens", "queued_ns", "run", "scheduled_ns", "shared_blocks", "target", "width",
    )  # fmt: skip

    def __init__(
        self, prompt_tokens: int, lengths: tuple[int, ...], priority: int, prefix: Chain | None, queued_ns: int
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.lengths = lengths
        self.priority = priority
        self.prefix = prefix
        self.queued_ns = queued_ns
        self.scheduled_ns: int | None = None
        self.first_token_ns: int | None = None
        self.last_token_ns: int | None = None
        self.ended_ns: int | None = None
        self.prompt_ns = 0
        self.completion_ns = 0
        self.prefilled = 0
        self.cached_tokens = 0
        self.preemptions = 0
        self.lanes: list[Lane] = []
        self.lanes_made: tuple[Lane, ...] = ()
        self.width = len(lengths)
        self.position = 0
        self.target = prompt_tokens
        self.blocks = 0
        self.shared_blocks = 0
        self.run: Run | None = None

    @property
    def timing(self) -> Timing:
        """When it was queued, scheduled, and made its first and last tokens."""
        return Timing(self.queued_ns, self.scheduled_ns, self.first_token_ns, self.last_token_ns)
