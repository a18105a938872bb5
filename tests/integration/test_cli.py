"""The command line against a running gateway, and without one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.gateways import Addresses, serving

TRACE = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{46 + n // 10}.{n % 10}805900,{50 + n},{5 + n % 7}\n" for n in range(30)
)
NOWHERE = "http://127.0.0.1:9"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("gateway")) as addresses:
        yield addresses


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(TRACE.encode()))
    return path


def test_check_says_ok_or_lists_problems_with_exit_1(tmp_path: Path) -> None:
    good = run("check")
    assert good.exit_code == 0
    assert "ok (13 backends" in good.stdout
    assert "its price is assumed" in good.stderr
    bad = tmp_path / "bad.yaml"
    bad.write_text("version: 1\nservr: {}\n")
    result = run("check", "-c", str(bad))
    assert result.exit_code == 1
    assert f"{bad}:2:1: servr: unknown key; did you mean 'server'?" in result.stderr
    as_json = run("check", "--json", "-c", str(bad))
    assert (as_json.exit_code, json.loads(as_json.stdout)["ok"]) == (1, False)
    assert json.loads(run("check", "--json").stdout)["ok"]
    assert run("serve", "-c", str(bad)).exit_code == 1


def test_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["title"] == "Turnout"
    assert "\n" not in run("schema", "--json").stdout.strip()


def test_usage_errors_exit_2(trace: Path) -> None:
    assert run("serve", "--port", "70000").exit_code == 2
    assert run("explain", "--slo", "ttft=soon").exit_code == 2
    assert run("bench").exit_code == 2
    assert run("nonsense").exit_code == 2


def test_nobody_there_exits_3(trace: Path) -> None:
    assert run("explain", "--url", NOWHERE).exit_code == 3
    assert run("explain", "--admin-url", NOWHERE, "--id", "x").exit_code == 3
    assert run("bench", "--trace", str(trace), "--limit", "2", "--url", NOWHERE, "--json").exit_code == 3


def test_explain_shows_every_candidate_and_the_winner(gateway: Addresses) -> None:
    shown = run("explain", "--url", gateway.url, "--slo", "tpot=1.7ms")
    assert shown.exit_code == 0
    assert "WINS: only_feasible" in shown.stdout
    for name in ("maia-70b", "groq-70b", "tpu-70b", "trainium-70b", "h100-70b", "cerebras-70b"):
        assert name in shown.stdout
    receipt = json.loads(run("explain", "--url", gateway.url, "--json", "--prompt", "hi").stdout)
    again = run("explain", "--admin-url", gateway.admin_url, "--id", receipt["id"], "--json")
    assert json.loads(again.stdout)["candidates"] == receipt["candidates"]
    refused = run("explain", "--url", gateway.url, "--model", "nobody")
    assert refused.exit_code == 1
    assert "404" in refused.stderr


@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_bench_answers_all_and_counts_exactly(gateway: Addresses, trace: Path, stream: str) -> None:
    result = run("bench", "--trace", str(trace), "--speedup", "20", "--url", gateway.url, stream, "--json")
    summary = json.loads(result.stdout)
    assert result.exit_code == 0, summary
    assert (summary["offered"], summary["answered"], summary["errors"]) == (30, 30, {})
    expected = sum(5 + n % 7 for n in range(30))
    assert sum(row["completion_tokens"] for row in summary["substrates"]) == expected
    assert sum(row["total_tokens"] for row in summary["substrates"]) == expected + sum(50 + n for n in range(30))
    assert all(row["usd_per_million_tokens"] > 0 for row in summary["substrates"])
    assert "not a hardware result" in summary["note"]


def test_bench_repeated_prompts_hit_the_cache(gateway: Addresses, tmp_path: Path) -> None:
    path = tmp_path / "same.csv"
    lines = [f"2023-11-16 18:15:{46 + n}.0,40,5\n" for n in range(4)]
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(lines))
    result = run("bench", "--trace", str(path), "--url", gateway.url, "--repeat", "--speedup", "4")
    assert result.exit_code == 0, result.output
    assert "cache" in result.stdout
    assert "4 of 4 answered" in result.stdout


def test_bench_fails_when_requests_fail(gateway: Addresses, trace: Path) -> None:
    result = run("bench", "--trace", str(trace), "--limit", "3", "--url", gateway.url, "--model", "nobody", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["errors"] == {"model_not_found": 3}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1"),
        ("A,B\n", "line 1: expected the columns"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,x,4\n", "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,3,4\n", "line 2"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,0,4\n", "line 2: lengths"),
    ],
)
def test_a_trace_that_is_none_names_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    result = run("bench", "--trace", str(path))
    assert result.exit_code == 1
    assert says in result.stderr
