"""The cache key: everything that may change an answer, and nothing else.

In: the tenant, the endpoint, the configuration's hash (its epoch: other silicon, other answers), and every field of
the body, unknown ones included, because an upstream may heed them.

Out, because they do not change what is said:
    stream, stream_options   how it is written out; a hit replays either way
    user, metadata, store    who asks, and what is kept of it
    service_tier, priority   how soon it is served
    safety_identifier, prompt_cache_key, prompt_cache_retention   bookkeeping of OpenAI's
    any field that is null   the same as an absent one

`n: 1` is the same as no `n`; in a chat, `max_completion_tokens` goes before `max_tokens` and means the same. Key order
and white space of the JSON do not matter; numbers are taken as written (`0` and `0.0` differ: a missed hit is
harmless, a false one is not).
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec

VERSION = b"1"
IGNORED = frozenset(
    {
        "stream",
        "stream_options",
        "user",
        "metadata",
        "store",
        "service_tier",
        "priority",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)

_encode = msgspec.json.Encoder(order="deterministic").encode


def cache_key(tenant: str, endpoint: str, config_epoch: str, body: Mapping[str, Any]) -> bytes:
    """A 32-byte digest; `body` must name the model by its canonical name."""
    fields = {name: value for name, value in body.items() if name not in IGNORED and value is not None}
    if fields.get("n") == 1:
        del fields["n"]
    if endpoint == "chat" and "max_completion_tokens" in fields:
        fields["max_tokens"] = fields.pop("max_completion_tokens")
    digest = blake2b(digest_size=32)
    for part in (VERSION, tenant.encode(), endpoint.encode(), config_epoch.encode(), _encode(fields)):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
