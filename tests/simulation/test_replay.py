"""A replay is the gateway's own code in virtual time: the same every time, nothing lost, every nanosecond billed."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli import main
from app.config.load import load
from app.metering.types import Bill, RequestRecord
from app.replay.accounts import WALL_START_NS
from app.replay.books import Books
from app.replay.faults import Fault, parse
from app.replay.formats import Arrival
from app.replay.oracle import BAND
from app.replay.records import Served
from app.replay.runs import Replay, Run, play
from app.replay.simulation import Simulation
from app.replay.stage import Stage, stage

SMALL = """
version: 1
slo:
  interactive: {ttft_ms: 1000, ttft_ms_per_1k_prompt_tokens_beyond_2k: 500, tpot_ms: 50}
  batch: {e2e_ms: 300000}
models:
  llama-3.1-8b: {default_max_tokens: 1024}
backends:
  - {name: h100, kind: gpu, chip: h100, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],
     emulation: {max_sequences: 4, max_waiting: 2},
     pricing: {type: chip_hours, usd_per_chip_hour: 3.99, source: test, confidence: assumed}}
  - {name: mi300x, kind: gpu, chip: mi300x, chips: 1, deployments: [{model: llama-3.1-8b, precision: fp8}],
     emulation: {max_sequences: 4, max_waiting: 2},
     pricing: {type: chip_hours, usd_per_chip_hour: 5.99, source: test, confidence: assumed}}
"""


def synthetic(count: int, rate: float, seed: int = 1) -> list[Arrival]:
    """Poisson arrivals with chat-like lengths; every third begins as others do."""
    rng, at_s = random.Random(seed), 0.0
    rows = []
    for number in range(count):
        at_s += rng.expovariate(rate)
        prompt = int(min(8000, rng.lognormvariate(6.5, 1.0))) + 1
        blocks = (0, 1, 2) if number % 3 == 0 else (1000 + number,)
        rows.append(Arrival(at_s, prompt, int(min(900, rng.lognormvariate(4.8, 0.8))) + 1, blocks))
    return rows


class Rows:
    def __init__(self) -> None:
        self.rows: list[tuple[RequestRecord, Bill]] = []

    def append(self, record: RequestRecord, bill: Bill) -> None:
        self.rows.append((record, bill))


def play_on(
    arrivals: Sequence[Arrival], config: Path | None = None, policy: str = "cheapest-slo", seed: int = 0
) -> tuple[Stage, Simulation, list[Served], Rows]:
    rows, served = Rows(), list[Served]()
    made = stage(load(config), seed, rows)
    model = next(iter(made.planner.models))
    simulation = Simulation(made, policy, model, served.append)
    simulation.run(arrivals)
    return made, simulation, served, rows


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "turnout.yaml"
    path.write_text(SMALL)
    return path


def test_every_request_ends_once_and_everything_is_given_back() -> None:
    made, simulation, served, _ = play_on(synthetic(1500, 8))
    assert len(served) == 1500
    assert all(load.sequences == 0 for load in made.fleet.state.loads.values())
    assert all(load.pending_prompt_tokens == 0 for load in made.fleet.state.loads.values())
    assert all(server.engine.demand() == 0 for server in made.servers.values())
    assert sum(each.requests for each in simulation.worked()) == sum(each.ok for each in served)


def test_requests_and_idle_time_add_up_to_what_the_silicon_costs() -> None:
    """Rows of the ledger plus idle time = chip-hours times price, to the nano-dollar a backend."""
    _, simulation, _, rows = play_on(synthetic(800, 8))
    billed: dict[str, int] = {}
    shares: dict[str, int] = {}
    for record, bill in rows.rows:
        assert record.backend is not None
        assert bill.effective is not None
        assert record.share is not None
        billed[record.backend] = billed.get(record.backend, 0) + bill.effective.total_nusd
        shares[record.backend] = shares.get(record.backend, 0) + record.share.total_ns
    for worked in simulation.worked():
        if worked.requests:
            assert shares[worked.name] == round(worked.busy_s * 1e9)
        if worked.requests and worked.capacity_usd is not None:
            idle_usd = worked.capacity_usd * worked.idle_s / (worked.busy_s + worked.idle_s)
            assert billed[worked.name] / 1e9 + idle_usd == pytest.approx(worked.capacity_usd, abs=2e-9)


def test_idle_counts_from_the_beginning_until_the_last_request_has_ended(small: Path) -> None:
    arrivals = [Arrival(at_s, 500, 50) for at_s in (5.0, 60.0)]
    rows, served = Rows(), list[Served]()
    made = stage(load(small), 0, rows)
    simulation = Simulation(made, "cheapest-slo", next(iter(made.planner.models)), served.append)
    simulation.schedule([Fault("mi300x", 100.0, 200.0)])  # what happens after the last request is nobody's
    simulation.run(arrivals)
    ended_s = max(record.wall_ns for record, _ in rows.rows) / 1e9 - WALL_START_NS / 1e9
    assert 60 < ended_s < 65
    for worked in simulation.worked():
        assert worked.busy_s + worked.idle_s == pytest.approx(ended_s, abs=1e-6), worked.name
        price_usd = {"h100": 3.99, "mi300x": 5.99}[worked.name]
        assert worked.capacity_usd == pytest.approx(price_usd * ended_s / 3600, abs=2e-9)


def test_the_same_seed_makes_the_same_decisions_to_the_byte(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(own(arrival)) + "\n" for arrival in synthetic(600, 10)))
    replay = Replay(trace, None)
    journals = []
    for number, seed in enumerate((1, 1, 2)):
        play(replay, Run("cheapest-slo", seed, tmp_path / f"{number}.log"))
        journals.append((tmp_path / f"{number}.log").read_bytes())
    assert journals[0] == journals[1] != journals[2]
    assert journals[0].count(b"\n") >= 600


def own(arrival: Arrival) -> dict[str, Any]:
    return {
        "at_s": arrival.at_s, "prompt_tokens": arrival.prompt_tokens, "completion_tokens": arrival.completion_tokens,
    }  # fmt: skip


def test_a_full_backend_refuses_and_another_is_asked_and_then_nobody(small: Path) -> None:
    burst = [Arrival(0.0, 500, 200) for _ in range(20)]
    made, _, served, rows = play_on(burst, small, "lowest-cost")
    assert sum(each.ok for each in served) == 12  # two backends with 4 slots and room for 2 that wait
    refused = [each for each in served if not each.ok]
    assert len(refused) == 8
    assert all(each.attempts <= 2 and not each.good for each in refused)
    # Who was told to come back later is not asked by the requests behind: a gate is shut meanwhile.
    assert 2 <= sum(record.outcome == "failed" and record.reason == "Saturated" for record, _ in rows.rows) <= 16
    assert all(load.sequences == 0 for load in made.fleet.state.loads.values())


def test_the_router_learns_lengths_and_is_not_told_them(small: Path) -> None:
    made, _, served, rows = play_on([Arrival(number * 2.0, 50, 700) for number in range(60)], small)
    assert all(each.completion_tokens == 700 for each in served)
    assert made.fleet.state.lengths["llama-3.1-8b"].completion_tokens > 500
    first, last = rows.rows[0][0], rows.rows[-1][0]
    assert first.predicted_cost_nusd is not None
    assert last.predicted_cost_nusd is not None
    assert last.predicted_cost_nusd > first.predicted_cost_nusd  # 256 tokens are expected at first


def test_too_long_a_prompt_is_refused_by_everyone_and_counts_as_missed(small: Path) -> None:
    _, _, served, _ = play_on([Arrival(0.0, 4_000_000, 5), Arrival(1.0, 10, 5)], small)
    assert [each.ok for each in served] == [False, True]
    assert served[0].promised
    assert served[0].reason == "context_length_exceeded"


def test_shared_prefixes_are_found_where_there_is_a_cache(small: Path) -> None:
    _, _, served, rows = play_on([Arrival(number * 3.0, 1600, 5, (7, 8, 9, 10)) for number in range(6)], small)
    assert served[0].cached_tokens == 0
    assert served[-1].cached_tokens > 1500
    assert rows.rows[-1][0].usage.prompt_tokens == 1600 - served[-1].cached_tokens


def test_other_classes_and_requests_without_a_promise_are_kept_apart(small: Path) -> None:
    text = small.read_text().replace("  batch:", "  none: {}\n  batch:")
    small.write_text(text)
    arrivals = [Arrival(0.0, 10, 5), Arrival(1.0, 10, 5, slo_class="none"), Arrival(2.0, 10, 5, slo_class="batch")]
    made, simulation, served, _ = play_on(arrivals, small)
    books = Books(list(made.servers))
    for each in served:
        books.add(each)
    summary = books.summary(3.0, simulation.worked())
    assert (summary["requests"], summary["without_slo"], summary["good"]) == (3, 1, 2)
    assert summary["slo_attainment"] == 1.0


def test_a_backend_that_goes_down_breaks_its_streams_and_others_take_over(small: Path) -> None:
    rows, served = Rows(), list[Served]()
    made = stage(load(small), 0, rows)
    simulation = Simulation(made, "lowest-cost", "llama-3.1-8b", served.append)
    simulation.schedule([Fault("h100", 2.0, 30.0)])
    simulation.run([Arrival(0.5, 500, 900), Arrival(1.999, 8000, 100), Arrival(5.0, 50, 5), Arrival(40.0, 50, 5)])
    names, by_time = list(made.servers), {each.at_s: each for each in served}
    assert by_time[0.5].reason == "cut_stream"
    assert not by_time[0.5].good
    assert by_time[0.5].effective_nusd  # what was used is billed
    for at_s, backend, attempts in ((1.999, "mi300x", 2), (5.0, "mi300x", 2), (40.0, "h100", 1)):
        assert by_time[at_s].ok
        assert (names[by_time[at_s].backend], by_time[at_s].attempts) == (backend, attempts)
    assert all(each.sequences == 0 for each in made.fleet.state.loads.values())
    assert all(server.engine.demand() == 0 for server in made.servers.values())


def test_faults_are_read_or_refused() -> None:
    assert parse("a-b:1-2.5") == Fault("a-b", 1.0, 2.5)
    for text in ("a", "a:5", "a:5-4", "a:x-y", ":1-2"):
        with pytest.raises(ValueError, match="is not like"):
            parse(text)


def summed(policy: str) -> dict[str, Any]:
    made, simulation, served, _ = play_on(synthetic(1000, 6), policy=policy)
    books = Books(list(made.servers))
    for each in served:
        books.add(each)
    return books.summary(1000 / 6, simulation.worked())


def test_the_default_policy_is_cheaper_than_taking_turns_and_keeps_its_promises() -> None:
    turns, default = summed("round-robin"), summed("cheapest-slo")
    assert default["usd_per_1k_good"] < 0.6 * turns["usd_per_1k_good"]
    assert default["slo_attainment"] > 0.95


def test_the_command_prints_json_as_documented(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    lines = [json.dumps(own(arrival)) for arrival in synthetic(100, 5)]
    trace.write_text("\n".join([*lines[:50], "{corrupt", *lines[50:]]))
    command = ["replay", str(trace), "--policy", "round-robin", "--policy", "cheapest-slo", "--oracle", "--json"]
    result = CliRunner().invoke(main, [*command, "--seeds", "2", "--jobs", "1"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [row["policy"] for row in found["policies"]] == ["round-robin", "cheapest-slo", "oracle"]
    for row in found["policies"]:
        assert row["requests"] == 100
        assert {"usd_per_1k_good", "usd_per_1m_tokens", "slo_attainment", "goodput_rps", "ttft_p50_s", "ttft_p95_s",
                "tpot_p50_s", "tpot_p95_s", "regret", "ci95"} <= row.keys()  # fmt: skip
    assert found["policies"][2]["regret"] == 0.0
    assert found["policies"][0]["regret"] is not None
    assert found["trace"]["corrupt_lines"] == 1
    assert found["trace"]["skipped"][0]["line"] == 51
    assert CliRunner().invoke(main, [*command, "--strict"]).exit_code == 1


def test_the_command_prints_a_table_and_says_what_it_is(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(json.dumps(own(arrival)) for arrival in synthetic(30, 5)))
    result = CliRunner().invoke(main, ["replay", str(trace), "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "emulated, not a hardware result" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--policy", "nonsense"], "there is no policy"), (["--model", "nonsense"], "there is no model")],
)
def test_unknown_names_are_errors(tmp_path: Path, arguments: list[str], says: str) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text(json.dumps(own(Arrival(0.0, 5, 5))))
    result = CliRunner().invoke(main, ["replay", str(trace), *arguments])
    assert result.exit_code == 1
    assert says in result.stderr


@pytest.mark.parametrize("option", ["--report", "--decisions"])
def test_a_file_that_cannot_be_written_is_said_before_anything_is_played(tmp_path: Path, option: str) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("not even looked at")
    result = CliRunner().invoke(main, ["replay", str(trace), option, str(tmp_path / "nowhere" / "out")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"there is no folder '{tmp_path / 'nowhere'}'" in result.stderr.replace("\n", "")


@pytest.mark.parametrize("option", ["--report", "--decisions"])
def test_results_are_shown_though_a_file_fails(tmp_path: Path, option: str) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full on this system")
    trace = tmp_path / "trace.jsonl"
    trace.write_text("\n".join(json.dumps(own(arrival)) for arrival in synthetic(150, 5)))
    result = CliRunner().invoke(main, ["replay", str(trace), option, "/dev/full"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "cheapest-slo" in result.stdout
    assert f"{option}: /dev/full" in result.stderr


def test_what_is_no_trace_is_an_error(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("hello\n")
    result = CliRunner().invoke(main, ["replay", str(trace)])
    assert result.exit_code == 1
    assert "not a trace" in result.stderr


def test_the_oracle_keeps_more_promises_for_less(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(own(arrival)) + "\n" for arrival in synthetic(500, 8)))
    replay = Replay(trace, None)
    oracle, default = play(replay, Run("oracle", 0)), play(replay, Run("cheapest-slo", 0))
    assert oracle["slo_attainment"] >= max(0.99, default["slo_attainment"])
    assert oracle["usd_per_1k_good"] <= default["usd_per_1k_good"] * 1.02
    assert oracle["impossible"] == 0
    assert oracle["lower_bound"] <= oracle["usd_per_1k_good"]


def test_what_the_oracle_leaves_out_could_not_have_won(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(own(arrival)) + "\n" for arrival in synthetic(150, 12)))
    replay, logs = Replay(trace, None), []
    for band in (BAND, float("inf")):
        monkeypatch.setattr("app.replay.oracle.BAND", band)
        play(replay, Run("oracle", 0, tmp_path / "log"))
        logs.append([line.split()[:5] for line in (tmp_path / "log").read_text().splitlines()])
    chosen = [[(at, who, backend) for at, who, _, backend, _ in log] for log in logs]
    assert chosen[0] == chosen[1]


def test_capacity_is_told_with_what_it_rests_on(small: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(own(arrival)) + "\n" for arrival in synthetic(60, 0.5)))
    result = CliRunner().invoke(main, ["replay", str(trace), "-c", str(small), "--capacity", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["capacity"]["load"] > 1
    assert found["capacity"]["seed"] == 0
    assert len(found["trace"]["hash"]) == len(found["config"]) == 12


@pytest.mark.parametrize(
    "ignored",
    [
        ("--policy", "round-robin"),
        ("--seeds", "2"),
        ("--load", "2"),
        ("--oracle",),
        ("--decisions", "d"),
        ("--report", "r"),
    ],
)
def test_what_the_search_for_capacity_would_ignore_is_refused(tmp_path: Path, ignored: tuple[str, ...]) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("not even looked at")
    result = CliRunner().invoke(main, ["replay", str(trace), "--capacity", *ignored])
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{ignored[0]} does not go with --capacity" in result.stderr


@pytest.mark.parametrize(("most", "said"), [(119, True), (120, False)])
def test_how_many_requests_is_said_where_they_are_very_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, said: bool
) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text("".join(json.dumps(own(arrival)) + "\n" for arrival in synthetic(30, 5)))
    monkeypatch.setattr("app.cli.replay.MANY_REQUESTS", most)
    command = ["replay", str(trace), "--load", "2", "--seeds", "2", "--jobs", "1", "--json"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert ("120 requests are going to be played" in result.stderr) is said
