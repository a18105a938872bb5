"""`turnout diff`: two configurations on one trace, whole commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main

FLEET = """
version: 1
slo:
  interactive: {ttft_ms: 1000, ttft_ms_per_1k_prompt_tokens_beyond_2k: 500, tpot_ms: 50}
models:
  llama-3.1-8b: {default_max_tokens: 1024}
backends:
  - {name: h100, kind: gpu, chip: h100, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],
     pricing: {type: chip_hours, usd_per_chip_hour: 3.99, source: test, confidence: assumed}}
"""
OTHER = """  - {name: mi300x, kind: gpu, chip: mi300x, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],
     pricing: {type: chip_hours, usd_per_chip_hour: 0.5, source: test, confidence: assumed}}
"""
LIVE = """  - {name: hosted, mode: live, kind: gpu, url: "http://127.0.0.1:9/v1",
     deployments: [{model: llama-3.1-8b}],
     profile: {ttft_ms: 300, tpot_ms: 20},
     pricing: {type: tokens, usd_per_million_prompt: 0.1, usd_per_million_completion: 0.2, source: test,
               confidence: assumed}}
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    lines = [{"at_s": n * 0.4, "prompt_tokens": 200 + 7 * n, "completion_tokens": 20 + n % 30} for n in range(60)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "old.yaml"
    path.write_text(FLEET)
    return path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.yaml"
    path.write_text(FLEET + OTHER)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["diff", *map(str, arguments)], catch_exceptions=False)


def test_another_backend_takes_requests_and_money_changes(old: Path, new: Path, trace: Path) -> None:
    result = run(old, new, "--trace", trace, "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["changes"]["backends"]["added"] == ["mi300x"]
    found = told["difference"]
    assert found["requests"] == 60
    assert found["moves"] == [{"from": "h100", "to": "mi300x", "requests": found["moved"]["requests"]}]
    assert found["moved"]["requests"] > 30
    figure = found["figures"]["usd_per_1k_good"]
    assert figure["difference"] == pytest.approx(figure["new"] - figure["old"])
    assert figure["difference"] < 0
    assert told["note"] == "emulated, not a hardware result"

    back = json.loads(run(new, old, "--trace", trace, "--json").stdout)["difference"]
    assert back["figures"]["usd_per_1k_good"]["difference"] == pytest.approx(-figure["difference"])
    assert back["moves"] == [{"from": "mi300x", "to": "h100", "requests": found["moved"]["requests"]}]


def test_both_policies_are_named_where_they_differ(old: Path, new: Path, trace: Path) -> None:
    new.write_text(FLEET + OTHER + "routing: {default_policy: round-robin}\n")
    arguments = ("--trace", trace, "--limit", "5")
    assert "policy cheapest-slo (old) and round-robin (new), seeds 1" in run(old, new, *arguments).stdout
    assert "policy cheapest-slo, seeds 1" in run(new, old, *arguments, "--policy", "cheapest-slo").stdout


def test_people_read_it_too(old: Path, new: Path, trace: Path) -> None:
    result = run(old, new, "--trace", trace, "--limit", "20", "--load", "0.5", "--seeds", "2", "--jobs", "1")
    assert result.exit_code == 0
    for said in ("backends added: mi300x", "would go elsewhere", "bill with idle", "±",
                 "emulated, not a hardware result"):  # fmt: skip
        assert said in result.stdout


def test_identical_configurations_differ_in_nothing(old: Path, trace: Path) -> None:
    result = run(old, old, "--trace", trace)
    assert (result.exit_code, result.stdout[:15]) == (0, "nothing differs")
    told = json.loads(run("shipped", "shipped", "--trace", trace, "--json").stdout)
    assert (told["changes"]["changed"], told["difference"]) == (False, None)


def test_only_what_no_decision_rests_on(old: Path, tmp_path: Path, trace: Path) -> None:
    new = tmp_path / "port.yaml"
    new.write_text(FLEET + "server: {port: 9000}\n")
    told = json.loads(run(old, new, "--trace", trace, "--json").stdout)
    assert told["changes"]["server"] == ["port"]
    assert told["settings"] == [{"path": "server.port", "old": 8080, "new": 9000}]
    assert (told["difference"]["moved"]["requests"], told["difference"]["moves"]) == (0, [])
    assert all(figure["difference"] == 0 for figure in told["difference"]["figures"].values())


def test_live_backends_are_said_to_be_left_out(old: Path, tmp_path: Path, trace: Path) -> None:
    new = tmp_path / "live.yaml"
    new.write_text(FLEET + LIVE)
    result = run(old, new, "--trace", trace)
    assert result.exit_code == 0
    assert "left out of new, live backends cannot be replayed: hosted" in result.stdout


def test_what_is_wrong_is_said_where(old: Path, tmp_path: Path, trace: Path) -> None:
    bad, worse = tmp_path / "bad.yaml", tmp_path / "worse.yaml"
    bad.write_text(FLEET + "servr: {}\n")
    worse.write_text("version: 1\nbackend: []\n")
    result = run(bad, worse, "--trace", trace)
    assert result.exit_code == 1
    assert f"{bad}:10:1: servr: unknown key; did you mean 'server'?" in result.stderr
    assert f"{worse}:2:1: backend: unknown key" in result.stderr
    corrupt = tmp_path / "corrupt.csv"
    corrupt.write_text("what,is,this\n1,2,3\n")
    nothing = run(old, old, "--trace", corrupt)
    assert (nothing.exit_code, nothing.stderr.startswith(f"{corrupt}: line 1:")) == (1, True)
    policy = run(old, old, "--trace", trace, "--policy", "cheap")
    assert (policy.exit_code, f"{old}: there is no policy 'cheap'" in policy.stderr) == (1, True)
    assert run(old, old, "--trace", trace, "--model", "gpt").exit_code == 1
    assert run(old, tmp_path / "none.yaml", "--trace", trace).exit_code == 1
    assert run(old, "--trace", trace).exit_code == 2
    assert run(old, old, "--trace", tmp_path / "none.csv").exit_code == 2
