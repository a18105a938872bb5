"""What lines of each kind of trace say: pure parsing, a line in, an arrival or the reason why not out.

azure      CSV, TIMESTAMP,ContextTokens,GeneratedTokens (Azure/AzurePublicDataset, CC-BY)
burstgpt   CSV, Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type; failures answer with 0 tokens
mooncake   JSON lines, timestamp (ms), input_length, output_length, hash_ids (of blocks of 512 tokens, chained)
turnout    JSON lines, at_s, prompt_tokens, completion_tokens, and where given model, priority, slo_class
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from math import isfinite
from typing import Any, Literal, NamedTuple

AZURE = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]
BURSTGPT = ["Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"]
MOONCAKE_BLOCK_TOKENS = 512

Format = Literal["azure", "burstgpt", "mooncake", "turnout", "ledger"]


class TraceError(Exception):
    """The file is not a trace; the message names the line."""


class Arrival(NamedTuple):
    """One request: seconds after the trace's first, its lengths, and what else is known of it.

    `blocks` are chained names of the prompt's blocks of 512 tokens, the last of which may be in part; `model` and
    `slo_class` None = not said.
    """

    at_s: float
    prompt_tokens: int
    completion_tokens: int
    blocks: tuple[int, ...] = ()
    model: str | None = None
    priority: int = 0
    slo_class: str | None = None


class Skipped(NamedTuple):
    """A line that is no request: corrupt, or (`failed`) a request that nobody answered."""

    line: int
    reason: str
    failed: bool = False


Row = Arrival | Skipped
Parser = Callable[[Iterable[str]], Iterator[Row]]


class _NotAnsweredError(Exception):
    """A request without an answer: not corrupt, but nothing to replay."""


def azure(lines: Iterable[str]) -> Iterator[Row]:
    """Azure's CSV.

    Raises: TraceError for other columns.
    """
    return _in_order(_csv(lines, AZURE, _azure_row))


def burstgpt(lines: Iterable[str]) -> Iterator[Row]:
    """BurstGPT's CSV.

    Raises: TraceError for other columns.
    """
    return _in_order(_csv(lines, BURSTGPT, _burstgpt_row))


def mooncake(lines: Iterable[str]) -> Iterator[Row]:
    """Mooncake's JSON lines; times are ticks as they stand."""
    return _json(lines, _mooncake_row)


def turnout(lines: Iterable[str]) -> Iterator[Row]:
    """Turnout's own JSON lines."""
    return _json(lines, _turnout_row)


def recognised(head: list[str]) -> Format | None:
    """What kind of trace begins with these lines; None for none."""
    first = next(csv.reader(head[:1]), [])
    if first == AZURE:
        return "azure"
    if first == BURSTGPT:
        return "burstgpt"
    for line in head:
        fields = _fields(line)
        if fields is not None and {"timestamp", "input_length", "output_length"} <= fields.keys():
            return "mooncake"
        if fields is not None and {"at_s", "prompt_tokens", "completion_tokens"} <= fields.keys():
            return "turnout"
    return None


PARSERS: dict[Format, Parser] = {"azure": azure, "burstgpt": burstgpt, "mooncake": mooncake, "turnout": turnout}


def _csv(lines: Iterable[str], columns: list[str], parse: Callable[[list[str]], Arrival]) -> Iterator[Row]:
    rows = csv.reader(lines)
    try:
        header = next(rows, ["nothing"])
    except csv.Error as error:
        raise TraceError(f"line 1: {error}") from None
    if header != columns:
        raise TraceError(f"line 1: expected the columns {','.join(columns)}, found {','.join(header)[:200]}")
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            if len(row) != len(columns):
                raise ValueError(f"expected {len(columns)} values, found {len(row)}")
            yield parse(row)
        except (ValueError, csv.Error) as error:
            yield Skipped(rows.line_num, str(error))
        except _NotAnsweredError as failure:
            yield Skipped(rows.line_num, str(failure), failed=True)


def _in_order(rows: Iterator[Row]) -> Iterator[Row]:
    """Times from the first on; a request before the one above it is corrupt."""
    first_s: float | None = None
    last_s, line = 0.0, 1
    for row in rows:
        line += 1
        if isinstance(row, Skipped):
            line = row.line
            yield row
            continue
        if first_s is None:
            first_s = last_s = row.at_s
        if row.at_s < last_s:
            yield Skipped(line, "earlier than the line before it")
            continue
        last_s = row.at_s
        yield row._replace(at_s=row.at_s - first_s)


def _azure_row(row: list[str]) -> Arrival:
    """One line, its time in seconds since 1970. Azure writes seven digits after the point."""
    second, _, fraction = row[0].partition(".")
    if fraction and not fraction.isdecimal():
        raise ValueError(f"'{row[0]}' is not a time")
    try:
        whole_s = datetime.fromisoformat(second).replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise ValueError(f"'{row[0]:.60}' is not a time") from None
    return _arrival(whole_s + float(f"0.{fraction or 0}"), *_lengths(row[1], row[2]))


def _burstgpt_row(row: list[str]) -> Arrival:
    prompt_tokens, completion_tokens = _lengths(row[2], row[3])
    if completion_tokens == 0:
        raise _NotAnsweredError("failed: no response tokens")
    try:
        at_s = float(row[0])
    except ValueError:
        raise ValueError(f"'{row[0]:.60}' is not a time") from None
    return _arrival(at_s, prompt_tokens, completion_tokens)._replace(model=row[1] or None)


def _mooncake_row(fields: dict[str, Any]) -> Arrival:
    at_ms = fields["timestamp"]
    hashes = fields.get("hash_ids", [])
    if not isinstance(hashes, list) or not all(type(each) is int for each in hashes):
        raise ValueError("hash_ids must be a list of integers")
    if not isinstance(at_ms, int | float):
        raise ValueError("timestamp must be a number")
    made = _arrival(at_ms / 1000, _whole(fields, "input_length"), _whole(fields, "output_length"))
    return made._replace(blocks=tuple(hashes))


def _turnout_row(fields: dict[str, Any]) -> Arrival:
    at_s, priority = fields["at_s"], fields.get("priority", 0)
    names = fields.get("model"), fields.get("slo_class")
    if not isinstance(at_s, int | float) or isinstance(at_s, bool):
        raise ValueError("at_s must be a number")
    if not all(name is None or isinstance(name, str) for name in names):
        raise ValueError("model and slo_class must be text")
    if type(priority) is not int:
        raise ValueError("priority must be a whole number")
    made = _arrival(float(at_s), _whole(fields, "prompt_tokens"), _whole(fields, "completion_tokens"))
    return made._replace(model=names[0], priority=priority, slo_class=names[1])


def _arrival(at_s: float, prompt_tokens: int, completion_tokens: int) -> Arrival:
    if not isfinite(at_s):
        raise ValueError("the time must be finite")
    if prompt_tokens < 1 or completion_tokens < 1:
        raise ValueError("lengths must be positive")
    return Arrival(at_s, prompt_tokens, completion_tokens)


def _lengths(prompt: str, completion: str) -> tuple[int, int]:
    try:
        return int(prompt), int(completion)
    except ValueError:
        raise ValueError(f"lengths must be whole numbers, not '{prompt:.30}' and '{completion:.30}'") from None


def _whole(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number")
    return value


def _json(lines: Iterable[str], parse: Callable[[dict[str, Any]], Arrival]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("not an object")
            yield parse(fields)
        except KeyError as error:
            yield Skipped(number, f"{error.args[0]} is missing")
        except json.JSONDecodeError as error:
            yield Skipped(number, f"not JSON from character {min(error.pos, len(line.rstrip())) + 1} on")
        except ValueError as error:
            yield Skipped(number, str(error))
        except OverflowError:
            yield Skipped(number, "a number is too large")
        except RecursionError:
            yield Skipped(number, "nested too deeply")


def _fields(line: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None
