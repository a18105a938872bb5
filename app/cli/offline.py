"""Deciding without a gateway: a configuration, and what a gateway had counted and learned (`GET /admin/state`)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from app.api import headers, parsing, schemas
from app.api.receipts import receipt
from app.cli.loading import CHECK_FAILED, load_or_exit
from app.errors import ApiError, StateFileError
from app.fleet.state_file import restore
from app.wiring import Gateway, build
from backends.clock import SystemClock, VirtualClock


def decide(
    config: Path | None,
    state: Path | None,
    model: str | None,
    body: Mapping[str, Any],
    request_headers: Mapping[str, str],
) -> dict[str, Any]:
    """The receipt of the decision that a gateway would make next; without a model it is of the first configured one.

    Prints what is wrong and exits 1 if anything is.
    """
    loaded, clock = load_or_exit(config), VirtualClock(SystemClock().now_ns())  # stands still: the moment of the file
    gateway = build(loaded, clock)
    try:
        if state is not None:
            _take_over(gateway, _read(state), clock.now_ns())
        options = headers.parse([(name.encode(), value.encode()) for name, value in request_headers.items()])
        asked = {"model": model or next(iter(loaded.config.models)), **body}
        encoded = msgspec.json.encode(asked)
        call = parsing.chat_call(schemas.decode_chat(encoded), encoded, "explain", clock.now_ns(), options)
        return receipt(gateway.service.preview(call))
    except (ApiError, StateFileError) as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)


def _read(path: Path) -> dict[str, Any]:
    """Raises: StateFileError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StateFileError(f"{path} cannot be read: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("state"), dict):
        raise StateFileError(f"{path} is not what GET /admin/state answers")
    return data


def _take_over(gateway: Gateway, data: Mapping[str, Any], now_ns: int) -> None:
    """Raises: StateFileError."""
    running = gateway.edition.loaded.hash
    if data.get("config") != running:
        print(f"warning: the state is of configuration {data.get('config')}, not of {running}", file=sys.stderr)
    fleet = gateway.fleet
    fleet.state = restore(data["state"], now_ns)
    fleet.know_warmth(now_ns)
    number, drained = data.get("next_decision", 1), data.get("drained_by_hand", {})
    if not isinstance(number, int) or number < 1 or not isinstance(drained, dict):
        raise StateFileError("next_decision or drained_by_hand is not as GET /admin/state answers them")
    fleet.receipts.resume(number)
    for name, is_drained in drained.items():
        if name in fleet.backends:
            fleet.set_drained(name, now_ns, drained=bool(is_drained))
