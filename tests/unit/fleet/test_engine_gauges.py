"""What engines say of their load, by the names of either."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.emulate.metrics import VllmMetrics
from app.fleet.engine_gauges import EngineLoad, UnreadableMetrics, parse
from backends.types import BackendSnapshot

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a } b"} 7.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0 1700000000000
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001"} nonsense
other 1
"""
SGLANG = """\
sglang:num_running_reqs{model_name="m"} 3
sglang:num_queue_reqs{model_name="m"} 1e1
sglang:token_usage{model_name="m"} 0.5
sglang:gen_throughput NaN
"""


def test_vllm_old_and_new_and_sglang() -> None:
    assert parse(VLLM) == EngineLoad(7, 2, 0.25)
    assert parse(VLLM.replace("kv_cache_usage_perc", "gpu_cache_usage_perc")) == EngineLoad(7, 2, 0.25)
    assert parse(SGLANG) == EngineLoad(3, 10, 0.5)
    assert parse(VLLM.replace("\n", "\r\n")) == EngineLoad(7, 2, 0.25)


def test_what_is_not_told_is_not_zero() -> None:
    assert parse("vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n") == EngineLoad(0, 0, None)
    for text in ("", "vllm:num_requests_running 1\n", "<html>", "vllm:kv_cache_usage_perc 1\n"):
        with pytest.raises(UnreadableMetrics, match="are there"):
            parse(text)


def test_ranks_add_up_and_the_fullest_cache_counts() -> None:
    other = VLLM.replace('engine="0"', 'engine="1"').replace(" 0.25", " 0.75")
    assert parse(VLLM + other) == EngineLoad(14, 4, 0.75)


@pytest.mark.parametrize("value", ["", "seven", "NaN", "-1", "+Inf", "1e13", "0x1"])
def test_what_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(UnreadableMetrics, match="num_requests_running"):
        parse(f"vllm:num_requests_running{{}} {value}\nvllm:num_requests_waiting 0\n")


@given(
    st.text()
    | st.lists(st.sampled_from([*VLLM.splitlines(), "vllm:", "sglang:token_usage{", "vllm:x}"])).map("\n".join)
)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        load = parse(text)
    except UnreadableMetrics:
        return
    assert load.running >= 0
    assert load.kv_used_ratio is None or 0 <= load.kv_used_ratio <= 1


def test_our_own_emulated_server_says_it_the_same_way() -> None:
    shown = VllmMetrics("m", 1000, {}, lambda: BackendSnapshot(running=5, waiting=4, kv_used_ratio=0.125))
    assert parse(shown.render("text/plain")[0].decode()) == EngineLoad(5, 4, 0.125)
