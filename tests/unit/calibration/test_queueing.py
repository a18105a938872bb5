"""Recorded runs: read as they are, replayed through the engine, fitted on their first requests alone."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.calibration import queueing
from app.calibration.queueing import Recorded, Run, Times
from app.errors import CalibrationError
from backends.gpu import TRAITS
from tests.sheets import sheets

TRUE = (0.5, 0.8, 40.0)


def made_run(requests: int = 130) -> Run:
    """A run whose server is our own engine with known constants, overloaded."""
    rng, now_s, asked = random.Random(4), 0.0, []
    for _ in range(requests):
        now_s += rng.expovariate(6.0)
        size = rng.randint(200, 3000), rng.randint(20, 400)
        asked.append(Recorded(*size, Times(now_s, now_s, now_s, now_s)))
    blank = Run("made", "rtx4090", 1, "llama-3.1-8b", "bf16", 64, 2048, 41_408, tuple(asked))
    times, _ = queueing.play(blank, queueing.run_physics(blank, sheets(), TRAITS, TRUE), TRAITS)
    return replace(blank, requests=tuple(each._replace(times=took) for each, took in zip(asked, times, strict=True)))


def stored(folder: Path, run: Run, change: Callable[[dict[str, Any]], None] = lambda meta: None) -> Path:
    """A run as files."""
    meta: dict[str, Any] = {
        "model": "meta-llama/Llama-3.1-8B",
        "engine_kwargs": {"dtype": "bfloat16", "max_num_seqs": run.max_sequences, "max_num_batched_tokens": 2048},
        "kv_cache": {"num_kv_tokens": run.kv_tokens},
    }
    change(meta)
    rows = [
        {
            "input_toks": each.prompt_tokens,
            "output_toks": each.completion_tokens,
            **dict(
                zip(
                    ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts"),
                    (1000.0 + moment for moment in each.times),
                    strict=True,
                )
            ),
        }
        for each in run.requests
    ]
    (folder / "meta.json.gz").write_bytes(gzip.compress(json.dumps(meta).encode()))
    (folder / "requests.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    sim = {"nodes": [{"instances": [{"hardware": "RTX4090", "tp_size": 1}]}]}
    (folder / "sim_config.json").write_text(json.dumps(sim))
    return folder


def test_a_run_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    run = made_run()
    read = queueing.load_run(stored(tmp_path, run), sheets())
    assert (read.chip, read.chips, read.model, read.precision) == ("rtx4090", 1, "llama-3.1-8b", "bf16")
    assert (read.max_sequences, read.batch_tokens, read.kv_tokens) == (64, 2048, 41_408)
    assert len(read.requests) == len(run.requests)
    first_s = run.requests[0].times.queued_s
    for told, was in zip(read.requests, run.requests, strict=True):
        assert told.times.last_token_s == pytest.approx(was.times.last_token_s - first_s, abs=1e-9)


def test_the_parts_of_a_request_add_up() -> None:
    run = made_run()
    for request in run.requests:
        times = request.times
        assert times.queued_s <= times.scheduled_s < times.first_token_s <= times.last_token_s
    assert max(each.times.scheduled_s - each.times.queued_s for each in run.requests) > 1.0, "not overloaded"


def test_known_constants_predict_what_was_not_fitted_on() -> None:
    found = queueing.validate(made_run(), sheets())
    assert all(abs(error) < 3.0 for error in found.errors_percent().values())
    assert "held out" in queueing.told(found)
    assert queueing.as_plain(found)["errors_percent"] == found.errors_percent()


def test_what_came_later_is_not_looked_at_by_the_fit() -> None:
    """Measured times of the held-out requests may be anything: the constants stay the same."""
    run = made_run()
    spoilt = replace(
        run,
        requests=(
            *run.requests[: queueing.FIT_REQUESTS],
            *(
                each._replace(times=Times(each.times.queued_s, *(each.times.queued_s + 9.0 for _ in range(3))))
                for each in run.requests[queueing.FIT_REQUESTS :]
            ),
        ),
    )
    assert queueing.fit(run, sheets(), TRAITS) == queueing.fit(spoilt, sheets(), TRAITS)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta.pop("engine_kwargs"),
        lambda meta: meta.update(model="acme/NoSuch-7B"),
        lambda meta: meta["engine_kwargs"].update(max_num_seqs="many"),
    ],
)
def test_a_record_of_another_form_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises(CalibrationError, match="not a recorded run"):
        queueing.load_run(stored(tmp_path, made_run(), change), sheets())


def test_a_folder_of_runs_or_of_none(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no recorded run"):
        queueing.runs_in(tmp_path)
    inner = tmp_path / "a"
    inner.mkdir()
    stored(inner, made_run())
    assert queueing.runs_in(tmp_path) == [inner]
    assert queueing.runs_in(inner) == [inner]


def at_once(run: Run, part: slice) -> Run:
    """The run with all that happened to some requests moved to when they were queued."""
    requests = list(run.requests)
    requests[part] = [each._replace(times=Times(*[each.times.queued_s] * 4)) for each in requests[part]]
    return replace(run, requests=tuple(requests))


def first(run: Run, **changes: Any) -> Run:
    return replace(run, requests=(run.requests[0]._replace(**changes), *run.requests[1:]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda run: replace(run, requests=run.requests[: queueing.FIT_REQUESTS]), "a run of 100: the first 100"),
        (lambda run: first(run, prompt_tokens=50_000), "request 1: .* exceed the whole engine"),
        (lambda run: first(run, prompt_tokens=0), "request 1: its tokens"),
        (lambda run: first(run, times=Times(0.0, 0.0, float("nan"), 1.0)), "request 1: .* times finite"),
        (lambda run: at_once(run, slice(0, queueing.FIT_REQUESTS)), "first requests have no duration"),
        (lambda run: at_once(run, slice(queueing.FIT_REQUESTS, None)), "other requests have no duration"),
        (
            lambda run: replace(run, requests=tuple(each._replace(completion_tokens=1) for each in run.requests)),
            "second token",
        ),
        (lambda run: replace(run, batch_tokens=0), "must be positive"),
    ],
)
def test_a_run_that_nothing_can_be_learnt_from_is_refused(change: Callable[[Run], Run], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        queueing.validate(change(made_run()), sheets())


def test_a_run_whose_kv_cache_is_said_to_be_nothing_is_left_to_memory(tmp_path: Path) -> None:
    stored(tmp_path, made_run(), lambda meta: meta.update(kv_cache=None))
    assert queueing.load_run(tmp_path, sheets()).kv_tokens is None
