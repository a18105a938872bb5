"""Steering headers: parsed, bounded, and named when wrong."""

from __future__ import annotations

import pytest

from app.api.headers import ANSWERED, CACHE_RESULTS, STEERING, client_request_id, parse
from app.call import NO_OPTIONS
from app.errors import BadRequest


def test_everything_a_client_can_ask_for() -> None:
    options = parse(
        [
            (b"authorization", b"Bearer anything"),
            (b"x-slo-ttft-ms", b"250"),
            (b"x-slo-tpot-ms", b"12.5"),
            (b"x-slo-e2e-ms", b"4000"),
            (b"x-turnout-policy", b"lowest-cost"),
            (b"x-turnout-max-cost-usd", b"0.002"),
            (b"x-turnout-cache", b"refresh"),
            (b"x-turnout-tags", b"team=search, job=nightly:1"),
            (b"x-turnout-debug", b"1"),
            (b"x-turnout-dry-run", b"true"),
        ]
    )
    assert (options.slo_ttft_s, options.slo_tpot_s, options.slo_e2e_s) == (0.25, 0.0125, 4.0)
    assert (options.policy, options.max_cost_usd, options.cache) == ("lowest-cost", 0.002, "refresh")
    assert options.tags == {"team": "search", "job": "nightly:1"}
    assert (options.debug, options.dry_run) == (True, True)


def test_none_is_free() -> None:
    assert parse([(b"content-type", b"application/json")]) is NO_OPTIONS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x-slo-ttft-ms", b"soon"),
        (b"x-slo-ttft-ms", b"-1"),
        (b"x-slo-tpot-ms", b"nan"),
        (b"x-slo-e2e-ms", b"inf"),
        (b"x-slo-e2e-ms", b"0"),
        (b"x-turnout-max-cost-usd", b"1e999"),
        (b"x-turnout-cache", b"maybe"),
        (b"x-turnout-debug", b"2"),
        (b"x-turnout-tags", b"novalue"),
        (b"x-turnout-tags", b"a=b\xff"),
        (b"x-turnout-tags", b",".join(b"k%d=v" % n for n in range(17))),
    ],
)
def test_what_is_wrong_names_its_header(name: bytes, value: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        parse([(name, value)])
    assert caught.value.param == name.decode()


@pytest.mark.parametrize("value", [b"1e-323", b"0.0009"])
def test_a_promise_too_short_to_divide_by_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="at least"):
        parse([(b"x-slo-ttft-ms", value)])


@pytest.mark.parametrize(
    ("value", "trace_id"),
    [
        (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "0af7651916cd43dd8448eb211c80319c"),
        (b"00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        (b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        (b"nonsense", None),
    ],
)
def test_a_callers_trace_is_tagged_and_a_malformed_one_ignored(value: bytes, trace_id: str | None) -> None:
    tags = parse([(b"traceparent", value), (b"x-turnout-tags", b"a=b")]).tags
    assert tags == {"a": "b"} | ({"trace_id": trace_id} if trace_id else {})
    assert parse([(b"traceparent", value)]).tags == ({"trace_id": trace_id} if trace_id else None)


def test_an_unsafe_request_id_is_replaced_not_echoed() -> None:
    assert client_request_id("abc-1") == "abc-1"
    assert client_request_id("a b\tc") is None
    assert client_request_id("x" * 129) is None


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("x-turnout-slo-tttf", "x-slo-ttft-ms"),
        ("x-turnout-slo-ttft-ms", "x-slo-ttft-ms"),
        ("x-slo-ttft", "x-slo-ttft-ms"),
        ("x-slo-tpot", "x-slo-tpot-ms"),
        ("x-slo-e2e", "x-slo-e2e-ms"),
        ("x-slo-ttft-s", "x-slo-ttft-ms"),
        ("x-turnout-polcy", "x-turnout-policy"),
        ("x-turnout-max-cost", "x-turnout-max-cost-usd"),
        ("x-turnout-dryrun", "x-turnout-dry-run"),
        ("x-turnout-tag", "x-turnout-tags"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_one_that_was_meant(misspelt: str, meant: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse([(b"x-turnout-debug", b"1"), (misspelt.encode(), b"200")])
    error = caught.value
    assert (error.status, error.param, error.error_code) == (400, misspelt, "unknown_header")
    assert str(error) == f"there is no request header {misspelt}; did you mean {meant}?"


def test_a_reserved_name_like_none_is_refused_with_all_there_are() -> None:
    with pytest.raises(BadRequest) as caught:
        parse([(b"x-turnout-zzzzzz", b"1")])
    assert all(name in str(caught.value) for name in STEERING)


def test_a_name_of_any_length_is_named_by_its_beginning() -> None:
    with pytest.raises(BadRequest) as caught:
        parse([(b"x-turnout-" + b"y" * 10_000, b"1")])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name", [b"x-slo-class", b"x-slo-tier", b"x-slo-objective", b"traceparent-extra", b"x-turnoutx"]
)
def test_names_of_others_pass(name: bytes) -> None:
    parse([(name, b"gold")])


def test_what_responses_carry_may_be_sent_back() -> None:
    options = parse([(name.encode(), b"whatever") for name in ANSWERED])
    assert options.policy is None
    assert options.cache == "on"
    assert not options.debug
    assert [parse([(b"x-turnout-cache", each.encode())]).cache for each in CACHE_RESULTS] == ["on"] * 4
