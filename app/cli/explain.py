"""`turnout explain`: why a request goes (or went) where it goes."""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.table import Table

from app.cli.client import CannotReachError, RefusedError, ask
from app.cli.console import stdout
from app.cli.loading import (
    CANNOT_REACH,
    CHECK_FAILED,
    config_option,
    header_text,
    json_option,
    policy_option,
    refuse_beside,
    url_option,
)

_PART = re.compile(r"^(ttft|tpot|e2e)=([0-9]+(?:\.[0-9]+)?)(ms|s)$")


def slo_headers(context: click.Context, option: click.Parameter, value: str | None) -> dict[str, str]:
    """`ttft=300ms,tpot=20ms,e2e=2s` as request headers."""
    headers: dict[str, str] = {}
    for part in (value or "").replace(" ", "").split(","):
        if not part:
            continue
        found = _PART.match(part)
        if found is None:
            raise click.BadParameter(f"'{part}' is not like ttft=300ms, tpot=20ms or e2e=2s", context, option)
        milliseconds = float(found[2]) * (1000 if found[3] == "s" else 1)
        headers[f"x-slo-{found[1]}-ms"] = f"{milliseconds:g}"
    return headers


@click.command()
@url_option("--url", "http://127.0.0.1:8080", "A running gateway.")
@click.option(
    "--state",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Decide here, without a gateway, by what one had learned: what GET /admin/state answered.",
)
@config_option
@url_option("--admin-url", "http://127.0.0.1:8081", "Its admin port, for --id.")
@click.option(
    "--admin-token", envvar="TURNOUT_ADMIN_TOKEN", callback=header_text, help="Bearer token of the admin port."
)
@click.option("--id", "decision_id", help="A decision that was made (x-turnout-decision); else one is tried out.")
@click.option("--model", help="The first configured one if absent.")
@click.option("--prompt", help="The prompt; or --prompt-tokens.")
@click.option("--prompt-tokens", type=click.IntRange(1, 1_000_000), default=500, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=200, show_default=True)
@click.option("--slo", "headers", callback=slo_headers, help="Such as ttft=300ms,tpot=20ms,e2e=2s.")
@policy_option
@json_option
def command(
    url: str,
    state: Path | None,
    path: Path | None,
    admin_url: str,
    admin_token: str | None,
    decision_id: str | None,
    model: str | None,
    prompt: str | None,
    prompt_tokens: int,
    max_tokens: int,
    headers: dict[str, str],
    policy: str | None,
    as_json: bool,
) -> None:
    """Show every candidate with what is predicted of it, who won and why. Nothing is dispatched.

    With --state or --config no gateway is asked: the decision is made here, as a gateway on that configuration would.
    """
    _refuse_what_is_ignored(decision_id, prompt, offline=bool(state or path))
    try:
        if decision_id is not None:
            token = {"authorization": f"Bearer {admin_token}"} if admin_token else {}
            receipt = ask("GET", f"{admin_url}/admin/decisions/{quote(decision_id, safe='')}", headers=token)
        else:
            text = prompt if prompt is not None else " ".join(["word"] * prompt_tokens)
            body = {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}
            named = {"x-turnout-policy": policy} if policy else {}
            headers = {**headers, **named}
            if state or path:
                receipt = import_module("app.cli.offline").decide(path, state, model, body, headers)
            else:
                asked = {"model": model or _first_model(url), **body}
                receipt = ask("POST", f"{url}/v1/chat/completions", asked, {"x-turnout-dry-run": "1", **headers})
    except CannotReachError as error:
        print(f"cannot reach {error}", file=sys.stderr)
        sys.exit(CANNOT_REACH)
    except RefusedError as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    if as_json:
        print(json.dumps(receipt))
    else:
        show(receipt, stdout())
    sys.exit(0 if receipt["chosen"] else CHECK_FAILED)


def _refuse_what_is_ignored(decision_id: str | None, prompt: str | None, *, offline: bool) -> None:
    if decision_id is not None:
        ignored = ("state", "path", "url", "model", "prompt", "prompt_tokens", "max_tokens", "headers", "policy")
        refuse_beside("--id", ignored, "it asks a running gateway's admin port for a decision that was made")
    if offline:
        refuse_beside("--state or --config", ("url",), "with these no gateway is asked")
    if prompt is not None:
        refuse_beside("--prompt", ("prompt_tokens",), "a prompt has its own length")


def _first_model(url: str) -> str:
    """The first model that a gateway lists.

    Raises: CannotReachError; RefusedError.
    """
    listed = ask("GET", f"{url}/v1/models")
    try:
        return str(listed["data"][0]["id"])
    except (KeyError, IndexError, TypeError):
        raise click.UsageError(f"{url} lists no models: give --model") from None


def show(receipt: dict[str, Any], console: Console) -> None:
    """A receipt for people."""
    request, chosen = receipt["request"], receipt["chosen"]
    alias = f" (asked for as {request['alias']})" if request.get("alias") else ""
    slo = ", ".join(f"{name[:-2]} {value * 1000:g} ms" for name, value in request["slo"].items() if value is not None)
    console.print(
        f"decision {receipt['id']}  policy {receipt['policy']}  config {receipt['config']}\n"
        f"{request['model']}{alias}: about {request['prompt_tokens']} prompt tokens, "
        f"{request['completion_tokens']} expected back; promised: {slo or 'nothing'}",
        highlight=False,
    )
    table = Table()
    for heading in ("backend", "substrate"):
        table.add_column(heading)
    for heading in ("TTFT ms", "q90", "TPOT ms", "pace q90", "e2e s", "cost USD", "in flight"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    winner = next((each for each in receipt["candidates"] if each["backend"] == chosen), None)
    for candidate in receipt["candidates"]:
        table.add_row(*_numbers(candidate), _verdict(candidate, winner, receipt["reason"]))
    for rejected in receipt["rejected"]:
        table.add_row(rejected["backend"], *[""] * 8, f"rejected: {rejected['reason']}")
    console.print(table)
    console.print(
        f"chosen: {chosen} ({receipt['reason']})" if chosen else f"nobody can serve this: {receipt['reason']}"
    )
    if receipt.get("unseen"):
        console.print(f"not looked at (dearer, or out of the draw): {', '.join(receipt['unseen'])}")
    console.print(
        "misses = its q90 does not beat the promise by routing.slo_margin, or would break one made to another."
    )
    console.print("pace = TPOT beside as much reading of prompts as of late: what the promise is held against.")
    console.print("? = no public measurement; * = assumed price. Emulated timing is not a hardware result.")


def _numbers(candidate: dict[str, Any]) -> list[str]:
    predicted = candidate["predicted"]
    return [
        candidate["backend"],
        candidate["substrate"] + ("" if candidate["calibrated"] else " ?"),
        f"{predicted['ttft_s'] * 1e3:.1f}",
        f"{predicted['ttft_q90_s'] * 1e3:.1f}",
        f"{predicted['tpot_s'] * 1e3:.2f}",
        f"{predicted['pace_q90_s'] * 1e3:.2f}",
        f"{predicted['e2e_s']:.2f}",
        f"{predicted['cost_usd']:.7f}" + ("*" if candidate["price_assumed"] else " "),
        str(candidate["in_flight"]),
    ]


def _verdict(candidate: dict[str, Any], winner: dict[str, Any] | None, reason: str) -> str:
    """Who won and why; of the others what they would miss, score, or cost beside the winner."""
    parts = []
    if candidate is winner:
        parts.append(f"WINS: {reason}")
    if warm_up_s := candidate["predicted"].get("warm_up_s"):
        parts.append(f"must warm up for {warm_up_s:.0f} s")
    if not candidate["feasible"]:
        parts.append(f"misses {candidate['why_not'].replace('+', ' and ')}")
    if candidate["scores"]:
        parts.append(f"score {sum(candidate['scores'].values()):.3f}")
    elif winner is not None and candidate is not winner and winner["predicted"]["cost_usd"] > 0:
        more = candidate["predicted"]["cost_usd"] / winner["predicted"]["cost_usd"] - 1
        parts.append(f"{abs(more):.0%} {'dearer' if more >= 0 else 'cheaper'}")
    return ", ".join(parts)
