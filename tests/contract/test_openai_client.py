"""The official `openai` client against a real gateway process on its shipped configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.gateways import Addresses, serving

HELLO = [{"role": "user", "content": "say hello to the turnout"}]
MODEL = "llama-3.1-8b"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("gateway")) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def client(gateway: Addresses) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0, timeout=30) as client:
        yield client


def test_chat(client: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=12)
    assert answer.object == "chat.completion"
    assert answer.model == MODEL
    assert answer.choices[0].finish_reason == "length"
    assert len(answer.choices[0].message.content.split()) == 12
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 12, 17)
    assert answer.usage.cost > 0


def test_chat_stream_with_usage(client: Any) -> None:
    stream = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 12
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 12
    assert chunks[-1].usage.cost > 0


def test_stream_and_whole_say_the_same(client: Any) -> None:
    fields = {"model": MODEL, "messages": HELLO, "seed": 7, "max_tokens": 30, "n": 2}
    off = {"x-turnout-cache": "off"}
    whole = client.chat.completions.create(**fields, extra_headers=off)
    texts = ["", ""]
    for chunk in client.chat.completions.create(**fields, stream=True, extra_headers=off):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert texts[0] != texts[1]


def test_stop_cuts_the_text(client: Any) -> None:
    fields = {"model": MODEL, "messages": HELLO, "seed": 11, "max_tokens": 200}
    full = client.chat.completions.create(**fields).choices[0].message.content
    word = full.split()[5]
    cut = client.chat.completions.create(**fields, stop=f" {word}")
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == full[: full.index(f" {word}")]
    streamed = client.chat.completions.create(**fields, stop=f" {word}", stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == cut.choices[0].message.content


def test_completions(client: Any) -> None:
    answer = client.completions.create(model=MODEL, prompt=["one two", "three"], max_tokens=4, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.usage.prompt_tokens == 3
    assert answer.usage.completion_tokens == 16
    stream = client.completions.create(model=MODEL, prompt="one two", stream=True)
    assert len("".join(chunk.choices[0].text for chunk in stream).split()) == 16


def test_max_completion_tokens_user_and_metadata(client: Any) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_completion_tokens=3, user="u", metadata={"team": "x"}
    )
    assert answer.usage.completion_tokens == 3


def test_models(client: Any) -> None:
    assert {model.id for model in client.models.list()} == {"llama-3.3-70b", "llama-3.1-8b"}
    assert client.models.retrieve("llama-3.3-70b").owned_by == "turnout"


def test_headers(client: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HELLO, max_tokens=2, extra_headers={"x-request-id": "mine-1"}
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-turnout-substrate"] in {"maia", "groq", "tpu", "trainium", "gpu", "cerebras"}
    assert raw.headers["x-turnout-policy"] == "cheapest-slo"
    assert float(raw.headers["x-turnout-cost-usd"]) > 0
    assert float(raw.headers["x-turnout-overhead-ms"]) >= 0
    for name in ("x-turnout-config", "x-turnout-backend", "x-turnout-decision", "x-turnout-attempts"):
        assert raw.headers[name]


def test_cache_hit_replays_either_way_and_costs_nothing(client: Any) -> None:
    fields = {"model": MODEL, "messages": HELLO, "temperature": 0, "max_tokens": 9}
    create = client.chat.completions.with_raw_response.create
    first, second = create(**fields), create(**fields)
    assert (first.headers["x-turnout-cache"], second.headers["x-turnout-cache"]) == ("miss", "hit")
    assert second.headers["x-turnout-cost-usd"] == "0.000000000"
    assert second.headers["x-turnout-saved-usd"] == first.headers["x-turnout-cost-usd"]
    assert second.parse().choices == first.parse().choices
    assert second.parse().usage.prompt_tokens_details.cached_tokens == 5
    streamed = client.chat.completions.create(**fields, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == first.parse().choices[0].message.content
    assert create(**fields, extra_headers={"x-turnout-cache": "off"}).headers["x-turnout-cache"] == "off"
    assert create(**fields, extra_headers={"x-turnout-cache": "refresh"}).headers["x-turnout-cache"] == "miss"
    with pytest.raises(openai.NotFoundError) as caught:
        create(**{**fields, "max_tokens": 8}, extra_headers={"x-turnout-cache": "only"})
    assert caught.value.code == "cache_miss"


def test_debug_receipt_and_dry_run(client: Any, gateway: Addresses) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=HELLO, max_tokens=2, extra_headers={"x-turnout-debug": "1"}
    )
    decision = answer.turnout["decision"]
    assert decision["chosen"] in {candidate["backend"] for candidate in decision["candidates"]}
    streamed = list(
        client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=2, stream=True, extra_headers={"x-turnout-debug": "1"}
        )
    )
    assert streamed[-1].turnout["decision"]["candidates"]
    dry = client.post(
        "/chat/completions",
        body={"model": MODEL, "messages": HELLO},
        cast_to=object,
        options={"headers": {"x-turnout-dry-run": "1"}},
    )
    assert dry["object"] == "turnout.decision"
    found = client.get(f"{gateway.admin_url}/admin/decisions/{dry['id']}", cast_to=object)
    assert found["candidates"] == dry["candidates"]


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found", "model"),
        ({"messages": []}, openai.BadRequestError, "invalid_value", "messages"),
        ({"temperature": 9}, openai.BadRequestError, "invalid_value", "temperature"),
        ({"max_tokens": 0}, openai.BadRequestError, "invalid_value", "max_tokens"),
        (
            {"messages": [{"role": "user", "content": "x " * 300_000}]},
            openai.BadRequestError,
            "context_length_exceeded",
            "messages",
        ),
        (
            {"logprobs": True},
            openai.BadRequestError,
            "unsupported_capability",
            "logprobs",
        ),
        (
            {"extra_headers": {"x-turnout-policy": "nope"}},
            openai.NotFoundError,
            "policy_not_found",
            "x-turnout-policy",
        ),
        (
            {"extra_headers": {"x-turnout-max-cost-usd": "0.000000000001"}},
            openai.BadRequestError,
            "over_max_cost",
            "x-turnout-max-cost-usd",
        ),
        ({"extra_headers": {"x-slo-ttft-ms": "soon"}}, openai.BadRequestError, "invalid_header", "x-slo-ttft-ms"),
        (
            {"extra_headers": {"x-turnout-slo-tttf": "200"}},
            openai.BadRequestError,
            "unknown_header",
            "x-turnout-slo-tttf",
        ),
    ],
)
def test_errors_are_the_clients_own(
    client: Any,
    fields: dict[str, object],
    error: type[openai.APIStatusError],
    code: str,
    param: str,
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**({"model": MODEL, "messages": HELLO, "max_tokens": 2} | fields))
    assert (caught.value.code, caught.value.param) == (code, param)
    assert isinstance(caught.value.body, dict)
    assert set(caught.value.body) == {"message", "type", "param", "code"}
    assert caught.value.request_id


def test_a_responses_own_headers_may_be_sent_back(client: Any) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 2}
    first = client.chat.completions.with_raw_response.create(**fields)
    echoed = {name: value for name, value in first.headers.items() if name.startswith("x-turnout-")}
    assert len(echoed) >= 9
    assert client.chat.completions.with_raw_response.create(**fields, extra_headers=echoed).status_code == 200
