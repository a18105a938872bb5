"""Which tokens the next step serves. Pure.

The common engine mixes: every running sequence decodes one token, and what is left of the token budget goes to the
prompts at the head of the queue, in chunks. With static shapes a prompt is a step of its own, whole and padded.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.emulator.traits import Traits


def chunks(remaining: Sequence[int], lanes: int, traits: Traits) -> list[int]:
    """How many prompt tokens of each admitted job the next step reads, head of the queue first.

    `remaining` is what each still has to read (all positive), `lanes` how many sequences decode meanwhile.
    """
    if not remaining:
        return []
    if traits.static_shapes is not None:
        return [remaining[0]]
    budget = room(lanes, traits)
    if len(remaining) == 1:
        return [budget] if remaining[0] > budget else [remaining[0]]
    taken: list[int] = []
    for tokens in remaining:
        if budget <= 0:
            break
        taken.append(min(tokens, budget))
        budget -= taken[-1]
    return taken


def room(lanes: int, traits: Traits) -> int:
    """Prompt tokens that a step can read beside so many decoding sequences, at least 1. With static shapes a prompt is
    a step of its own however long, so that there is room for another only when none is being read."""
    return 1 if traits.static_shapes is not None else max(1, traits.prefill_budget - lanes)


def decodes(prompt_tokens: int, traits: Traits) -> bool:
    """Whether running sequences advance in a step that reads `prompt_tokens` of prompts."""
    return prompt_tokens == 0 or traits.static_shapes is None
