"""YAML text with positions: every value knows its line and column. The only importer of yaml.

Refused with a position: duplicate keys, unknown anchors, documents that expand beyond `MAX_NODES`, `${ENV}` names that
are not set. `${NAME}`, `${NAME:-default}` and `${file:/path}` (a secret's file, its last newline dropped) are replaced
inside string scalars only, never in keys. Truth is `true` or `false`: `off`, `on`, `yes` and `no` are words, as in
YAML 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from app.errors import ConfigError

# libyaml is ten times as fast and keeps the same positions; not every wheel has it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_NODES = 100_000
_BOOL = "tag:yaml.org,2002:bool"
_ENV = re.compile(r"\$\{(?:file:(?P<file>[^}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?)\}")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands; both from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


SECRETS = ("admin_token", "api_key", "encryption_keys", "secret_access_key", "session_token")
"""Keys whose values, or lists of them, are nobody's to see."""


@dataclass(slots=True)
class Source:
    """A document: its plain data, the position of every path in it, and which secrets stand in it as they are."""

    file: str
    data: Any = None
    positions: dict[Path, Position] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    bare_secrets: list[Path] = field(default_factory=list)

    def at(self, path: Sequence[str | int]) -> Position:
        """The position of a path, or of its nearest parent."""
        path = tuple(path)
        while path and path not in self.positions:
            path = path[:-1]
        return self.positions.get(path, Position(self.file, 1, 1))

    def over(self, base: Source) -> Source:
        """This document laid over another: a top-level section given here replaces the other's whole."""
        kept = {path: at for path, at in base.positions.items() if not path or path[0] not in self.data}
        bare = [path for path in base.bare_secrets if path[0] not in self.data] + self.bare_secrets
        problems = [*base.problems, *self.problems]
        return Source(self.file, {**base.data, **self.data}, {**kept, **self.positions}, problems, bare)

    def problem(self, path: Sequence[str | int], message: str) -> str:
        """`file:line:column: path: message`."""
        return f"{self.at(path)}: {dotted(path)}: {message}" if path else f"{self.at(path)}: {message}"


def parse(
    text: str, file: str, environment: Mapping[str, str], read_file: Callable[[str], str] = lambda path: ""
) -> Source:
    """Read a document; `read_file` gives the content of a `${file:...}`.

    Raises: ConfigError for anything that is not one well-formed document; other problems are collected.
    """
    unprintable = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if unprintable:
        before = text[: unprintable.start()]
        at = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise ConfigError([f"{at}: the character {unprintable[0]!a} is not allowed"])
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else f"{file}:1:1"
        raise ConfigError([f"{where}: {error.problem or error.context or 'not valid YAML'}"]) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError([f"{file}:1:1: not valid YAML: {str(error)[:200]}"]) from None
    source = Source(file)
    reader = _Reader(source, environment, read_file)
    try:
        source.data = None if node is None else reader.read(node, ())
    except RecursionError:
        raise ConfigError([f"{file}:1:1: nested too deeply"]) from None
    return source


def dotted(path: Sequence[str | int]) -> str:
    """`backends[2].pricing`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class _Reader:
    """Turns nodes into data, remembering positions."""

    def __init__(self, source: Source, environment: Mapping[str, str], read_file: Callable[[str], str]) -> None:
        self._read_file = read_file
        self._source = source
        self._environment = environment
        self._constructor = yaml.constructor.SafeConstructor()
        self._nodes = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError([f"{self._source.file}:1:1: the document expands to more than {MAX_NODES} values"])
        mark = node.start_mark
        self._source.positions.setdefault(path, Position(self._source.file, mark.line + 1, mark.column + 1))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            mark = key_node.start_mark
            position = Position(self._source.file, mark.line + 1, mark.column + 1)
            if key is None or key_node.tag == "tag:yaml.org,2002:merge":
                self._source.problems.append(f"{position}: keys must be plain words")
                continue
            if key in result:
                self._source.problems.append(f"{position}: {dotted((*path, key))}: the key is given twice")
                continue
            self._source.positions[(*path, key)] = position
            result[key] = self.read(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        value: Any
        if node.tag == _BOOL and node.value.lower() not in ("true", "false"):
            return node.value  # so that `cache: {type: off}` says what it says
        try:
            value = self._constructor.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError, KeyError, IndexError, AttributeError, TypeError) as error:
            self._source.problems.append(self._source.problem(path, f"not a value: {str(error)[:120]}"))
            return None
        return self._expand(value, path) if isinstance(value, str) else value

    def _expand(self, text: str, path: Path) -> str:
        if text and any(name in SECRETS for name in path[-2:]) and not _ENV.search(text):
            self._source.bare_secrets.append(path)

        def replace(found: re.Match[str]) -> str:
            if found["file"] is not None:
                return self._secret(found["file"], path)
            default: str | None = found["default"]
            value = self._environment.get(found["name"], default)
            if value is None:
                self._source.problems.append(
                    self._source.problem(path, f"the environment variable {found['name']} is not set")
                )
                return ""
            return value

        return _ENV.sub(replace, text)

    def _secret(self, file: str, path: Path) -> str:
        try:
            return self._read_file(file).removesuffix("\n")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no file name at all
            self._source.problems.append(self._source.problem(path, f"{file} cannot be read: {type(error).__name__}"))
            return ""
