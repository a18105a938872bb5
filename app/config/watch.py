"""Whether the files of a configuration have changed: by time and size first, then by content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

Stamp = tuple[int, int, int] | tuple[str, ...] | None
"""Of a file its inode, time and size, of a folder the YAML files in it, of neither None."""


class Watched:
    """Files, and folders of YAML files, as they were when last looked at."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._stamps = {path: _stamp(path) for path in self._paths}
        self._digest = _digest(self._paths)

    def changed(self) -> bool:
        """Whether anything reads differently now than the last time; a file that was only touched does not."""
        stamps = {path: _stamp(path) for path in self._paths}
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        before, self._digest = self._digest, _digest(self._paths)
        return self._digest != before


def _stamp(path: Path) -> Stamp:
    try:
        if path.is_dir():
            return tuple(sorted(file.name for file in path.glob("*.yaml")))
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(paths: Iterable[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in paths:
        try:
            content = repr(_stamp(path)).encode() if path.is_dir() else path.read_bytes()
        except OSError:
            content = b"?"
        digest.update(b"%s\0%d\0" % (str(path).encode(), len(content)))
        digest.update(content)
    return digest.digest()
