"""`client.embeddings` of the official client and LangChain's against a real gateway process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_openai import OpenAIEmbeddings

from tests.gateways import Addresses, serving

MODEL = "llama-3.1-8b"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with serving(tmp_path_factory.mktemp("gateway")) as addresses:
        yield addresses


@pytest.fixture(scope="module")
def client(gateway: Addresses) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0, timeout=30) as client:
        yield client


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_of_texts_with_words_in_common_are_near(client: Any) -> None:
    texts = ["the quick train to the north", "a quick train to the north", "completely different words here"]
    answer = client.embeddings.create(model=MODEL, input=texts)
    vectors = [each.embedding for each in answer.data]
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert {len(vector) for vector in vectors} == {256}
    assert cosine(vectors[0], vectors[0]) == pytest.approx(1, abs=1e-5)
    assert cosine(vectors[0], vectors[1]) > 0.7 > 0.3 > cosine(vectors[0], vectors[2])
    assert (answer.model, answer.object) == (MODEL, "list")
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (16, 16)
    assert answer.usage.cost > 0


def test_both_encodings_and_dimensions(client: Any) -> None:
    asked = {"model": MODEL, "input": "one", "dimensions": 12}
    floats = client.embeddings.create(**asked, encoding_format="float").data[0].embedding
    packed = client.embeddings.create(**asked, encoding_format="base64").data[0].embedding
    by_default = client.embeddings.create(**asked).data[0].embedding
    assert isinstance(packed, str)
    assert floats == pytest.approx(by_default)
    assert len(floats) == 12


@pytest.mark.parametrize(
    ("given", "inputs", "tokens"),
    [("one two", 1, 2), (["one", "two three"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), ("", 1, 1)],
)
def test_inputs_of_every_form(client: Any, given: Any, inputs: int, tokens: int) -> None:
    answer = client.embeddings.create(model=MODEL, input=given, extra_headers={"x-turnout-cache": "off"})
    assert (len(answer.data), answer.usage.prompt_tokens) == (inputs, tokens)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": []}, "input"),
        ({"input": ["a", 1]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"input": ["a"] * 500, "dimensions": 4096}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"model": ""}, "model"),
        ({"input": "w " * 200_000}, "input"),
    ],
)
def test_what_is_wrong_is_named(client: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(**{"model": MODEL, "input": "one", **fields})
    assert raised.value.param == param


def test_langchain(gateway: Addresses) -> None:
    model = OpenAIEmbeddings(
        base_url=f"{gateway.url}/v1",
        api_key="anything",  # type: ignore[arg-type]
        model=MODEL,
        check_embedding_ctx_length=False,  # else it counts with a vocabulary that it would fetch
    )
    assert [len(vector) for vector in model.embed_documents(["one", "two"])] == [256, 256]
    assert len(model.embed_query("one")) == 256
