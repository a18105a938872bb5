"""Answers as bytes: magic, version, checksum, msgpack. What does not decode is not an answer."""

from __future__ import annotations

from zlib import crc32

import msgspec

from app.cache.base import CachedAnswer

MAGIC = b"TRN1"
_HEADER = len(MAGIC) + 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CachedAnswer).decode


def encode(answer: CachedAnswer) -> bytes:
    """MAGIC, CRC-32 of the payload (big-endian), payload."""
    payload = _encode(answer)
    return MAGIC + crc32(payload).to_bytes(4, "big") + payload


def decode(value: bytes) -> CachedAnswer | None:
    """The answer, or None if the value is not one we wrote whole."""
    payload = value[_HEADER:]
    if value[: len(MAGIC)] != MAGIC or value[len(MAGIC) : _HEADER] != crc32(payload).to_bytes(4, "big"):
        return None
    try:
        return _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
