"""Answers as bytes: magic, what was done to the rest, a checksum over key and rest, the rest. Pure.

The rest is msgpack, zstd where that is shorter, sealed with AES-256-GCM where there are keys. The key that a value is
stored under is part of the checksum and of what is sealed: a value copied to another key is not an answer, nor is one
that was written in another version, cut, or changed. Whoever can write to Redis can forge what is not sealed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
import zstandard

from app.cache.base import CachedAnswer
from app.errors import StartupError

MAGIC = b"TRN2"
PACKED, SEALED = 1, 2
SHORTEST_PACKED = 128
"""Below this many bytes zstd gains nothing."""

MAX_GROWTH = 64
"""A value that unpacks to more than this many times `max_value_bytes` is no answer of ours."""

KEY_BYTES, NONCE_BYTES, NAME_BYTES = 32, 12, 4
_HEADER = len(MAGIC) + 1 + 4
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CachedAnswer).decode


class Codec:
    """Turns answers into values and back."""

    def __init__(
        self,
        max_value_bytes: int,
        *,
        compress: bool = True,
        keys: Sequence[bytes] = (),
        nonce: Callable[[], bytes] = lambda: os.urandom(NONCE_BYTES),
    ) -> None:
        """`keys` are 32 bytes each: the first seals, every one opens.

        Raises: StartupError without the library that seals.
        """
        self._max_value_bytes = max_value_bytes
        self._pack = zstandard.ZstdCompressor(level=3, write_checksum=False).compress if compress else None
        self._unpack = zstandard.ZstdDecompressor().decompress
        self._ciphers: dict[bytes, Any] = {}
        self._forged: tuple[type[Exception], ...] = ()
        if keys:
            aead, self._forged = _aead()
            self._ciphers = {_name(key): aead(key) for key in keys}
        self._sealing = _name(keys[0]) if keys else b""
        self._nonce = nonce

    def encode(self, key: bytes, answer: CachedAnswer) -> bytes | None:
        """The value for `key`; None if it is longer than may be kept."""
        rest, done = _encode(answer), 0
        if self._pack is not None and len(rest) >= SHORTEST_PACKED:
            packed = self._pack(rest)
            if len(packed) < len(rest):
                rest, done = packed, PACKED
        if self._sealing:
            nonce = self._nonce()
            sealed = self._ciphers[self._sealing].encrypt(nonce, rest, _bound(key, done | SEALED))
            rest, done = self._sealing + nonce + sealed, done | SEALED
        if len(rest) + _HEADER > self._max_value_bytes:
            return None
        return MAGIC + bytes((done,)) + _checksum(key, done, rest) + rest

    def decode(self, key: bytes, value: bytes) -> CachedAnswer | None:
        """The answer, or None if the value is not one that was written whole, for this key, with a key we have."""
        if len(value) < _HEADER or not value.startswith(MAGIC):
            return None
        done, rest = value[len(MAGIC)], value[_HEADER:]
        if value[len(MAGIC) + 1 : _HEADER] != _checksum(key, done, rest):
            return None
        if bool(done & SEALED) != bool(self._ciphers):
            return None  # with keys, what nobody sealed is nobody's
        opened = self._open(key, done, rest) if done & SEALED else rest
        plain = self._unpacked(opened) if opened is not None and done & PACKED else opened
        if plain is None:
            return None
        try:
            return _decode(plain)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _open(self, key: bytes, done: int, rest: bytes) -> bytes | None:
        cipher = self._ciphers.get(rest[:NAME_BYTES])
        if cipher is None:
            return None
        nonce, sealed = rest[NAME_BYTES : NAME_BYTES + NONCE_BYTES], rest[NAME_BYTES + NONCE_BYTES :]
        try:
            return bytes(cipher.decrypt(nonce, sealed, _bound(key, done)))
        except self._forged:
            return None

    def _unpacked(self, packed: bytes) -> bytes | None:
        try:
            size = zstandard.frame_content_size(packed)
            if not 0 <= size <= MAX_GROWTH * self._max_value_bytes:
                return None
            return self._unpack(packed)
        except zstandard.ZstdError:
            return None


def _checksum(key: bytes, done: int, rest: bytes) -> bytes:
    return crc32(rest, crc32(_bound(key, done))).to_bytes(4, "big")


def _bound(key: bytes, done: int) -> bytes:
    return bytes((done,)) + key


def _name(key: bytes) -> bytes:
    """Which key sealed a value, without telling the key."""
    return blake2b(key, digest_size=NAME_BYTES, person=b"turnout-cache").digest()


def _aead() -> tuple[Any, tuple[type[Exception], ...]]:
    """What makes a cipher of a key, and what it raises for a value that was not sealed with that."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise StartupError("cache.encryption_keys needs `cryptography`: pip install 'turnout[encryption]'") from None
    return AESGCM, (InvalidTag, ValueError)
