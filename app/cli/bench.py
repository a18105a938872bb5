"""`turnout bench`: real arrivals against a running gateway, open loop."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.client import CannotReachError, GatewayClient, RefusedError, Reply, ask, connect
from app.cli.console import stdout
from app.cli.explain import slo_headers
from app.cli.loading import CANNOT_REACH, CHECK_FAILED, finite, json_option, policy_option, url_option
from app.cli.report import Promise, summarise
from app.replay.formats import Arrival, TraceError
from app.replay.traces import read

WORDS = ("plan", "route", "chip", "table", "load", "north", "river", "count", "light", "paper", "green", "stone")


@dataclass(slots=True)
class Run:
    """What is sent, and what came of it so far."""

    url: str
    headers: Mapping[str, str]
    stream: bool
    speedup: float
    model: str
    repeat: bool
    seed: int
    sent: list[Arrival] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    lateness_s: list[float] = field(default_factory=list)
    began_s: float = 0.0

    def body(self, number: int, arrival: Arrival) -> dict[str, Any]:
        """A chat request of exactly the trace's lengths; the prompt is unique unless --repeat."""
        rng = random.Random(self.seed if self.repeat else f"{self.seed}:{number}")
        words = rng.choices(WORDS, k=arrival.prompt_tokens)
        if not self.repeat:
            words[0] = f"{self.seed}-{number}"
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": " ".join(words)}],
            "max_tokens": arrival.completion_tokens,
            "min_tokens": arrival.completion_tokens,
            "ignore_eos": True,
            "stream": self.stream,
        }
        if self.stream:
            body["stream_options"] = {"include_usage": True}
        if self.repeat:
            body["temperature"] = 0
        return body


@click.command()
@click.option("--trace", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first requests of the trace.")
@click.option("--speedup", type=click.FloatRange(0.01, 1000), default=1.0, callback=finite, show_default=True)
@url_option("--url", "http://127.0.0.1:8080", "A running gateway.")
@click.option("--model", default="llama-3.3-70b", show_default=True)
@policy_option
@click.option("--slo", "headers", callback=slo_headers, help="Ask for, and judge by, ttft=300ms,tpot=20ms,e2e=2s.")
@click.option("--stream/--no-stream", default=True, show_default=True)
@click.option("--repeat", is_flag=True, help="The same words for equal lengths, at temperature 0: lets the cache hit.")
@click.option("--seed", default=1, show_default=True)
@json_option
def command(
    path: Path, limit: int | None, speedup: float, url: str, model: str, policy: str | None,
    headers: dict[str, str], stream: bool, repeat: bool, seed: int, as_json: bool,
) -> None:  # fmt: skip
    """Drive a running gateway with a trace's arrivals and lengths, waiting for no answer before the next request."""
    try:
        arrivals = read(path, limit, strict=True).arrivals
    except (TraceError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    _reach(url)
    named = {"x-turnout-policy": policy} if policy else {}
    sent = {"content-type": "application/json", **headers, **named}
    run = Run(f"{url}/v1/chat/completions", sent, stream, speedup, model, repeat, seed)
    try:
        asyncio.run(_drive(run, arrivals, quiet=as_json))
    except KeyboardInterrupt:
        print("interrupted: this is what there is", file=sys.stderr)
    wall_s = time.perf_counter() - run.began_s
    summary = summarise(run.sent, run.replies, run.lateness_s, _promise(headers), wall_s)
    if as_json:
        print(json.dumps(summary))
    else:
        show(summary, stdout())
    sys.exit(CHECK_FAILED if summary["errors"] or len(run.sent) < len(arrivals) else 0)


def _reach(url: str) -> None:
    """Find out that nobody is there before a long trace does; other gateways need not know /healthz."""
    try:
        ask("GET", f"{url}/healthz")
    except CannotReachError as error:
        print(f"cannot reach {error}", file=sys.stderr)
        sys.exit(CANNOT_REACH)
    except RefusedError:
        return


async def _drive(run: Run, arrivals: Sequence[Arrival], quiet: bool) -> None:
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    run.began_s = time.perf_counter()
    with Progress(*columns, disable=quiet, console=Console(stderr=True), refresh_per_second=4) as progress:
        bar = progress.add_task("", total=len(arrivals))
        async with connect() as client, asyncio.TaskGroup() as group:
            for number, arrival in enumerate(arrivals):
                # Building a prompt takes time: it is done before the request is due.
                body = run.body(number, arrival)
                due_s = run.began_s + arrival.at_s / run.speedup
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                run.lateness_s.append(max(0.0, time.perf_counter() - due_s))
                group.create_task(_send(run, client, arrival, body, lambda: progress.advance(bar)))


async def _send(run: Run, client: GatewayClient, arrival: Arrival, body: dict[str, Any], done: Any) -> None:
    reply = Reply(error="interrupted")
    run.sent.append(arrival)
    place = len(run.replies)
    run.replies.append(reply)
    run.replies[place] = await client.measure(run.url, body, run.headers)
    done()


def show(summary: dict[str, Any], console: Console) -> None:
    """The summary for people."""
    table = Table()
    table.add_column("substrate")
    for heading in ("requests", "TTFT p50 ms", "p95", "TPOT p50 ms", "p95", "in SLO", "$ / M tokens", "cache hits"):
        table.add_column(heading, justify="right")
    for row in summary["substrates"]:
        price = row["usd_per_million_tokens"]
        table.add_row(
            row["substrate"],
            str(row["requests"]),
            *(_ms(row[name]) for name in ("ttft_p50_s", "ttft_p95_s", "tpot_p50_s", "tpot_p95_s")),
            f"{row['slo_attainment']:.1%}",
            "unpriced" if price is None else f"{price:.3f}",
            str(row["cache_hits"]),
        )
    console.print(table)
    attained = summary["slo_attainment"]
    console.print(
        f"{summary['answered']} of {summary['offered']} answered in {summary['wall_s']:.1f} s, "
        f"{'-' if attained is None else format(attained, '.1%')} in SLO, "
        f"{summary['completion_tokens_per_s']:.0f} completion tokens/s, "
        f"sent at most {_ms(summary['send_lateness_p99_s'])} ms late (p99)",
        highlight=False,
    )
    for error, count in summary["errors"].items():
        console.print(f"{count} x {error}", style="red")
    console.print(summary["note"])


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"


def _promise(headers: Mapping[str, str]) -> Promise:
    if not headers:
        return Promise()
    asked = {name: float(value) / 1000 for name, value in headers.items()}
    return Promise(asked.get("x-slo-ttft-ms"), 0.0, asked.get("x-slo-tpot-ms"), asked.get("x-slo-e2e-ms"))
