"""`turnout emulate` as a process: any OpenAI client, vLLM's metrics with their meaning, bad input, faults, drain."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from app.cli import main
from tests.gateways import serving
from tests.upstreams import live_config

MODEL = "llama-3.1-8b"
HELLO = [{"role": "user", "content": "one two three"}]
ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["emulate", *arguments], catch_exceptions=False)


@contextlib.contextmanager
def emulate(folder: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server on a free port; ended by SIGTERM, which must drain it cleanly."""
    command = [sys.executable, "-m", "app", "emulate", "h100", "--model", MODEL, "--port", "0", "--json", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "stderr").open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder, env=environment
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (folder / "stderr").read_text()
            yield json.loads(line)["url"], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=30)
            process.stdout.close()  # type: ignore[union-attr]
    assert code == 0, (folder / "stderr").read_text()
    assert "Traceback" not in (folder / "stderr").read_text()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("emulate")
    with emulate(folder, "--time-scale", "10", "--served-model-name", MODEL, "--served-model-name", "small") as (at, _):
        yield at


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="anything", max_retries=0, timeout=20) as client:
        yield client


def samples(url: str) -> dict[str, float]:
    """Each series without its common labels: `vllm:request_success_total{stop}`."""
    found = {}
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            labels = {key: value for key, value in sample.labels.items() if key not in ("model_name", "engine", "le")}
            found[sample.name + (f"{{{','.join(labels.values())}}}" if labels else "")] = sample.value
    return found


def test_chat_and_completions_with_exact_usage(client: Any) -> None:
    fields = {"model": MODEL, "messages": HELLO, "max_tokens": 30, "seed": 4, "n": 2}
    whole = client.chat.completions.create(**fields)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (3, 60)
    texts = ["", ""]
    chunks = list(client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    assert chunks[-1].usage.completion_tokens == 60
    assert not hasattr(chunks[-1].usage, "cost")
    stop = f" {texts[0].split()[4]}"
    cut = client.chat.completions.create(**fields | {"n": 1, "stop": stop})
    assert (cut.choices[0].finish_reason, cut.choices[0].message.content) == ("stop", texts[0][: texts[0].index(stop)])
    completion = client.completions.create(model="small", prompt=["a b", "c"], extra_body={"min_tokens": 16})
    assert [len(choice.text.split()) for choice in completion.choices] == [16, 16]
    assert completion.model == "small"
    endless = client.completions.create(
        model=MODEL, prompt="a", max_tokens=1000, stream=True, extra_body={"ignore_eos": True}
    )
    assert len("".join(chunk.choices[0].text for chunk in endless).split()) == 1000


def test_models_health_and_version(client: Any, url: str) -> None:
    assert [model.id for model in client.models.list()] == [MODEL, "small"]
    assert client.models.retrieve("small").max_model_len == 131_072
    for path in ("/health", "/ping"):
        assert (httpx.get(url + path).status_code, httpx.head(url + path).content) == (200, b"")
    assert httpx.get(f"{url}/version").json()["version"].startswith("turnout-")


def test_metrics_after_known_traffic(tmp_path: Path) -> None:
    with emulate(tmp_path, "--max-num-seqs", "4") as (url, _), httpx.Client(base_url=url, timeout=30) as client:
        assert all(value == 0 for name, value in samples(url).items() if not name.startswith("vllm:cache_config_info"))

        def ask(**fields: object) -> None:
            body = {"model": MODEL, "messages": HELLO, "max_tokens": 60, "ignore_eos": True, **fields}
            client.post("/v1/chat/completions", json=body).raise_for_status()

        began_s = time.monotonic()
        ask()
        alone_s = time.monotonic() - began_s
        threads = [threading.Thread(target=ask, kwargs={"stream": bool(n % 2)}) for n in range(8)]
        for thread in threads:
            thread.start()
        busiest: dict[str, float] = {}
        while any(thread.is_alive() for thread in threads):
            for name, value in samples(url).items():
                busiest[name] = max(value, busiest.get(name, 0.0))
        now = samples(url)
        assert (busiest["vllm:num_requests_running"], busiest["vllm:num_requests_waiting"]) == (4, 4)
        assert 0 < busiest["vllm:kv_cache_usage_perc"] < 1
        assert (now["vllm:num_requests_running"], now["vllm:num_requests_waiting"]) == (0, 0)
        assert now["vllm:kv_cache_usage_perc"] == 0
        assert now["vllm:prompt_tokens_total"] == now["vllm:prefix_cache_queries_total"] == 9 * 3
        assert now["vllm:generation_tokens_total"] == 9 * 60
        assert now["vllm:request_success_total{length}"] == 9
        assert now["vllm:num_preemptions_total"] == 0
        for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds",
                     "request_prefill_time_seconds", "request_decode_time_seconds", "request_inference_time_seconds",
                     "request_time_per_output_token_seconds", "request_prompt_tokens",
                     "request_generation_tokens"):  # fmt: skip
            assert now[f"vllm:{name}_count"] == 9, name
        assert now["vllm:request_prompt_tokens_sum"] == 27
        assert now["vllm:request_generation_tokens_sum"] == 540
        between = now["vllm:inter_token_latency_seconds_count"]
        assert between == now["vllm:time_per_output_token_seconds_count"] == 9 * 59
        parts = now["vllm:request_queue_time_seconds_sum"] + now["vllm:request_inference_time_seconds_sum"]
        assert parts == pytest.approx(now["vllm:e2e_request_latency_seconds_sum"])
        assert now["vllm:request_decode_time_seconds_sum"] == pytest.approx(now["vllm:inter_token_latency_seconds_sum"])
        assert now["vllm:request_queue_time_seconds_sum"] > 4 * 0.5 * alone_s, "four waited for the first four"
        info = next(name for name in now if name.startswith("vllm:cache_config_info"))
        assert info.startswith("vllm:cache_config_info{16,")


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "gpt-9"}, openai.NotFoundError, "model_not_found", "model"),
        ({"messages": []}, openai.BadRequestError, "invalid_value", "messages"),
        ({"max_tokens": 0}, openai.BadRequestError, "invalid_value", "max_tokens"),
        ({"logprobs": True}, openai.BadRequestError, "unsupported_capability", "logprobs"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "invalid_value", "stream_options"),
        (
            {"messages": [{"role": "user", "content": "w " * 140_000}]},
            openai.BadRequestError,
            "context_length_exceeded",
            "messages",
        ),
    ],
)
def test_bad_input_is_named(
    client: Any, fields: dict[str, Any], error: type[openai.APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(**({"model": MODEL, "messages": HELLO} | fields))
    assert (caught.value.code, caught.value.param) == (code, param)


def test_what_is_no_request_is_answered_in_the_usual_shape(url: str) -> None:
    for method, path, content, status, code in (
        ("POST", "/v1/chat/completions", b"{", 400, "invalid_json"),
        ("GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("POST", "/health", b"", 405, "method_not_allowed"),
        ("GET", "/v1/models/nobody", b"", 404, "model_not_found"),
        ("GET", "/nowhere", b"", 404, "unknown_route"),
        ("POST", "/admin/faults", b"", 405, "method_not_allowed"),
        ("PUT", "/admin/faults", b"rules: [{kind: cutt}]", 400, "invalid_faults"),
        ("PUT", "/admin/faults", b"\xff", 400, "invalid_faults"),
    ):
        answer = httpx.request(method, url + path, content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), path
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_faults_can_be_set_at_run_time_and_hit_the_same_requests(url: str) -> None:
    plan = {"seed": 3, "rules": [{"kind": "http_error", "status": 429, "retry_after_s": 0.5, "share": 0.4}]}

    def statuses() -> list[int]:
        assert httpx.put(f"{url}/admin/faults", json=plan).status_code == 200
        body = {"model": MODEL, "messages": HELLO, "max_tokens": 1}
        return [httpx.post(f"{url}/v1/chat/completions", json=body).status_code for _ in range(12)]

    before = samples(url).get("turnout_emulate_faults_total{http_error}", 0)
    first = statuses()
    assert set(first) == {200, 429}
    assert statuses() == first
    assert httpx.get(f"{url}/admin/faults").json()["rules"][0]["status"] == 429
    assert samples(url)["turnout_emulate_faults_total{http_error}"] - before == 2 * first.count(429)
    assert httpx.delete(f"{url}/admin/faults").json() == {"seed": 0, "rules": []}


def test_faults_from_a_file_a_token_for_them_and_a_drain_that_lets_finish(tmp_path: Path) -> None:
    (tmp_path / "faults.yaml").write_text("rules:\n  - {kind: http_error, status: 500, until_s: 3600}\n")
    with emulate(tmp_path, "--faults", "faults.yaml", "--admin-token", "a-token") as (url, process):
        body = {"model": MODEL, "messages": HELLO, "max_tokens": 100, "ignore_eos": True}
        assert httpx.get(f"{url}/admin/faults").status_code == 401
        headers = {"authorization": "Bearer a-token"}
        assert httpx.get(f"{url}/admin/faults", headers=headers).json()["rules"][0]["until_s"] == 3600
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 500
        assert httpx.delete(f"{url}/admin/faults").status_code == 401
        assert httpx.delete(f"{url}/admin/faults", headers=headers).status_code == 200
        answers: list[httpx.Response] = []
        asking = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30))
        )
        asking.start()
        while samples(url)["vllm:num_requests_running"] == 0:
            assert asking.is_alive()
        process.send_signal(signal.SIGTERM)
        asking.join(timeout=30)
        assert process.wait(timeout=30) == 0
    assert answers[0].json()["usage"]["completion_tokens"] == 100


def test_a_gateway_process_in_front_of_it(tmp_path: Path) -> None:
    with emulate(tmp_path) as (url, _):
        live_config(tmp_path, {"up": url})
        (gateway := tmp_path / "gateway").mkdir()
        with serving(gateway, tmp_path / "turnout.yaml") as at:
            body = {"model": MODEL, "messages": HELLO, "max_tokens": 20, "ignore_eos": True}
            for stream in (True, False):
                answer = httpx.post(f"{at.url}/v1/chat/completions", json={**body, "stream": stream}, timeout=30)
                assert (answer.status_code, answer.headers["x-turnout-backend"]) == (200, "up")
            shown = httpx.get(f"{at.admin_url}/admin/backends").json()["backends"][0]
            assert (shown["mode"], shown["chip"], shown["running"]) == ("live", None, 0)
        assert samples(url)["vllm:generation_tokens_total"] == 40
        assert "HTTP Request" not in (gateway / "stderr").read_text(), "no line for every request"


def test_the_ready_line_shows_how_to_try_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "app", "emulate", "tpu", "--model", MODEL, "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    began_s = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        took_s = time.monotonic() - began_s
        process.terminate()
    assert took_s < 5, "under a second on an idle machine"
    text = "".join(lines)
    assert "not a hardware result" in text
    assert "curl -s http://127.0.0.1:" in text


def test_what_cannot_be_emulated_is_said(tmp_path: Path) -> None:
    for arguments, code, says in (
        (("h10", "--model", MODEL), 2, "did you mean 'h100'"),
        (("h100", "--model", "llama-3.1-8"), 2, "did you mean 'llama-3.1-8b'"),
        (("h100", "--model", MODEL, "--precision", "fp9"), 2, "did you mean 'fp8'"),
        (("h100", "--model", MODEL, "--kv-precision", "fp9"), 2, "did you mean 'fp8'"),
        (("h100", "--model", MODEL, "--precision", "fp4"), 2, "states no fp4 rate"),
        ((), 2, "SUBSTRATE and --model are needed"),
        (("h100", "--model", MODEL, "--time-scale", "0"), 2, "--time-scale"),
        (("h100", "--model", "llama-3.3-70b", "--chips", "1"), 1, "the smallest group that fits is 2"),
        (("h100", "--model", MODEL, "--faults", str(tmp_path / "none")), 1, "none:1:1: cannot be read"),
    ):
        result = run(*arguments)
        assert result.exit_code == code, (arguments, result.output)
        assert says in " ".join(result.output.split()), arguments
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run("h100", "--model", MODEL, "--port", str(taken.getsockname()[1]))
        assert (result.exit_code, "cannot listen" in result.stderr) == (1, True)


def test_the_list_names_every_chip_and_model() -> None:
    found = json.loads(run("--list", "--json").stdout)
    assert {"h100", "tpu_v6e", "wse3"} <= {row["chip"] for row in found["substrates"]}
    assert all(row["calibration"] in ("calibrated", "uncalibrated") for row in found["substrates"])
    shown = run("--list").stdout
    assert "h100" in shown
    assert MODEL in shown
