"""`mode: live` in the configuration: what it needs, what is said when it lacks it, and that no secret shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app.config.changes import same_backend
from app.config.load import LoadedConfig, cold_start_of, load, redacted, to_spec
from app.config.models import EmulatedBackendConfig, LiveBackendConfig
from app.errors import ConfigError
from backends.types import BackendSpec, ColdStart, LiveSpec

HEAD = "version: 1\nextends: shipped\nmodels: {llama-3.3-70b: {}}\n"
PRICE = (
    "    pricing: {type: tokens, usd_per_million_prompt: 1, usd_per_million_completion: 2,"
    " source: s, confidence: derived}\n"
)
LIVE = f"""\
backends:
  - name: up
    mode: live
    kind: gpu
    url: http://vllm:8000
    api_key: ${{KEY}}
    chip: h100
    chips: 4
    deployments: [{{model: llama-3.3-70b, upstream_model: meta/Llama, precision: fp8, capabilities: [n, tools]}}]
{PRICE}"""
SECRET = "sk-very-secret"


def loaded(folder: Path, text: str, **environment: str) -> LoadedConfig:
    (folder / "turnout.yaml").write_text(HEAD + text)
    return load(folder / "turnout.yaml", {"KEY": SECRET, **environment})


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text)
    return [problem.removeprefix(f"{folder}/turnout.yaml:") for problem in caught.value.problems]


def spec_of(config: LoadedConfig) -> LiveSpec:
    spec = to_spec(config.config.backends[0])
    assert isinstance(spec, LiveSpec)
    return spec


def test_a_live_backend_is_read_and_an_emulated_one_needs_no_mode(tmp_path: Path) -> None:
    spec = spec_of(loaded(tmp_path, LIVE))
    assert (spec.url, spec.api_key, spec.chip, spec.chips) == ("http://vllm:8000", SECRET, "h100", 4)
    assert spec.deployments[0].upstream_model == "meta/Llama"
    assert spec.deployments[0].capabilities == {"n", "tools"}
    assert (spec.timeouts.connect_s, spec.timeouts.whole_s, spec.max_connections) == (5, 600, 1024)
    assert {type(backend) for backend in load().config.backends} == {EmulatedBackendConfig}


def test_the_key_shows_nowhere_and_changes_no_hash(tmp_path: Path) -> None:
    config = loaded(tmp_path, LIVE)
    backend = config.config.backends[0]
    assert isinstance(backend, LiveBackendConfig)
    assert SECRET not in repr(backend) + repr(to_spec(backend)) + json.dumps(redacted(config.config))
    other = loaded(tmp_path, LIVE, KEY="another")
    assert (other.hash, other.epoch) == (config.hash, config.epoch)
    assert not any(SECRET in problem for problem in problems(tmp_path, LIVE.replace("${KEY}", f"{SECRET} x")))


def test_what_the_cache_rests_on_ignores_timeouts_and_prices_but_not_the_service(tmp_path: Path) -> None:
    epoch = loaded(tmp_path, LIVE).epoch
    assert loaded(tmp_path, LIVE + "    timeouts: {idle_s: 9}\n    max_connections: 9\n").epoch == epoch
    assert loaded(tmp_path, LIVE.replace("meta/Llama", "meta/Other")).epoch != epoch
    assert loaded(tmp_path, LIVE.replace("vllm:8000", "vllm:8001")).epoch != epoch


def test_a_hosted_service_declares_what_to_expect(tmp_path: Path) -> None:
    text = LIVE.replace("kind: gpu", "kind: hosted").replace("    chip: h100\n    chips: 4\n", "")
    assert "4:5: backends[0]: what latency to expect must be known" in problems(tmp_path, text)[0].replace(
        "5:5:", "4:5:"
    )
    profile = "    profile: {ttft_ms: 300, tpot_ms: 20, ttft_ms_per_1k_prompt_tokens: 40, network_ms: 5}\n"
    spec = spec_of(loaded(tmp_path, text + profile))
    assert spec.profile is not None
    assert (spec.profile.overhead_s, spec.profile.prefill_s_per_token, spec.profile.network_s) == (0.3, 4e-5, 0.005)
    assert spec.profile.tpot_s(50) == 0.02


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mode: live", "mode: lve", "there is no mode like that (there are: emulated, live)"),
        ("url: http://vllm:8000", "url: vllm:8000", "url: value error, needs http:// or https://"),
        ("url: http://vllm:8000", "url: http://me:pw@vllm", "may have neither credentials"),
        ("url: http://vllm:8000", "url: http://vllm/v1?key=1", "may have neither credentials"),
        ("url: http://vllm:8000", "url: http://vllm:99999", "a port from 1 to 65535"),
        ("    url: http://vllm:8000\n", "", "backends[0].url: is required"),
        ("    chips: 4\n", "", "`chip` and `chips` go together"),
        ("precision: fp8, ", "", "its precision is needed"),
        ("chips: 4", "chips: 1", "the smallest group that fits is 2"),
        ("kind: gpu", "kind: tpu", "belongs to kind 'gpu'"),
        ("upstream_model: meta/Llama", "upstream_modell: x", "unknown key; did you mean 'upstream_model'?"),
        ("api_key: ${KEY}", "api_key: ${NONE}", "the environment variable NONE is not set"),
        ("[n, tools]", "[n, tool]", "capabilities"),
        (
            "kind: gpu",
            "kind: gpu\n    dialect: opnai",
            "has no dialect 'opnai'; did you mean 'openai'? (there are: openai)",
        ),
        ("kind: gpu", "kind: gpu\n    dialect: azure", "kind 'gpu' has no dialect 'azure'"),
        ("kind: gpu", "kind: gpu\n    forward_headers: [authorization]", "it is not forwarded"),
        ("kind: gpu", "kind: gpu\n    forward_headers: [X-Tenant]", "forward_headers[0]"),
        ("kind: gpu", "kind: gpu\n    api_version: v1", "the dialect 'openai' has no versions"),
        ("kind: gpu", "kind: gpu\n    aws: {region: x}", "is for the dialects bedrock and sagemaker, not for 'openai'"),
        ("kind: gpu", "kind: hosted\n    dialect: bedrock\n    aws: {access_key_id: x}", "go together"),
        ("model: llama-3.3-70b,", "model: llama-9,", "there is no model 'llama-9'"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in LIVE
    found = problems(tmp_path, LIVE.replace(old, new))
    assert any(says in problem for problem in found), found
    assert all(problem.split(":")[0].isdigit() for problem in found)


AMAZON = LIVE.replace("    chip: h100\n    chips: 4\n", "    profile: {ttft_ms: 1, tpot_ms: 1}\n").replace(
    "kind: gpu\n    url: http://vllm:8000\n    api_key: ${KEY}\n",
    "kind: trainium\n    dialect: bedrock\n    url: https://elsewhere\n"
    '    aws: {region: eu-west-1, access_key_id: AK, secret_access_key: "${KEY}", session_token: "${KEY}"}\n',
)


def test_amazons_credentials_are_shown_nowhere(tmp_path: Path) -> None:
    config = loaded(tmp_path, AMAZON)
    assert spec_of(config).aws == ("eu-west-1", "AK", SECRET, SECRET)
    for shown in (json.dumps(redacted(config.config)), repr(config.config), repr(spec_of(config))):
        assert SECRET not in shown
    assert loaded(tmp_path, AMAZON, KEY="another").hash == config.hash


def test_a_secret_that_stands_in_the_file_is_refused(tmp_path: Path) -> None:
    (told,) = problems(tmp_path, LIVE.replace("${KEY}", "sk-bare"))
    assert "backends[0].api_key: a secret must not stand in the file: ${NAME} or ${file:/path} tells it" in told
    assert "sk-bare" not in told
    assert loaded(tmp_path, LIVE).warnings == ()


def test_amazons_services_need_a_region(tmp_path: Path) -> None:
    text = AMAZON.replace("region: eu-west-1, ", "")
    assert any("names no region: say aws.region" in problem for problem in problems(tmp_path, text))


def test_a_model_without_a_datasheet_says_its_context(tmp_path: Path) -> None:
    text = LIVE.replace("llama-3.3-70b", "gpt-9") + "    profile: {ttft_ms: 1, tpot_ms: 1}\n"
    (tmp_path / "turnout.yaml").write_text((HEAD + text).replace("models: {llama-3.3-70b", "models: {gpt-9"))
    with pytest.raises(ConfigError, match="say its context_tokens"):
        load(tmp_path / "turnout.yaml", {"KEY": SECRET})
    text = text.replace("precision: fp8", "context_tokens: 9000")
    (tmp_path / "turnout.yaml").write_text((HEAD + text).replace("models: {llama-3.3-70b", "models: {gpt-9"))
    assert load(tmp_path / "turnout.yaml", {"KEY": SECRET}).warnings == ()


def test_chip_hours_on_a_live_backend_are_warned_of(tmp_path: Path) -> None:
    hours = "    pricing: {type: chip_hours, usd_per_chip_hour: 3, source: s, confidence: derived}\n"
    assert "unpriced" in loaded(tmp_path, LIVE.replace(PRICE, hours)).warnings[0]
    no_chip = LIVE.replace(PRICE, hours).replace(
        "    chip: h100\n    chips: 4\n", "    profile: {ttft_ms: 1, tpot_ms: 1}\n"
    )
    assert any("a price by the chip-hour needs `chip` and `chips`" in each for each in problems(tmp_path, no_chip))


def test_the_order_of_capabilities_is_the_same_in_every_process(tmp_path: Path) -> None:
    config = loaded(tmp_path, LIVE.replace("[n, tools]", "[vision, n, tools, json_schema, logprobs]"))
    dump = redacted(config.config)["backends"][0]["deployments"][0]
    assert dump["capabilities"] == ["json_schema", "logprobs", "n", "tools", "vision"]


COLD = "    cold_start: {warm_up_s: 90, idle_after_s: 600}\n"


def test_a_cold_start_is_declared_of_any_backend_and_changes_no_answer(tmp_path: Path) -> None:
    without, live = loaded(tmp_path, LIVE), loaded(tmp_path, LIVE + COLD)
    assert cold_start_of(live.config.backends[0]) == ColdStart(90.0, 600.0, "cold")
    assert (live.epoch, live.hash == without.hash) == (without.epoch, False)
    assert cold_start_of(without.config.backends[0]) is None
    emulated = LIVE.replace("    mode: live\n", "").replace("    url: http://vllm:8000\n    api_key: ${KEY}\n", "")
    emulated = emulated.replace(
        "upstream_model: meta/Llama, precision: fp8, capabilities: [n, tools]", "precision: fp8"
    )
    warm = loaded(tmp_path, emulated + "    cold_start: {warm_up_s: 5, starts: warm}\n")
    spec = to_spec(warm.config.backends[0])
    assert isinstance(spec, BackendSpec)
    assert spec.cold_start == ColdStart(5.0, None, "warm")
    assert not same_backend(warm, loaded(tmp_path, emulated), "up"), "another engine"
    assert same_backend(live, loaded(tmp_path, LIVE), "up"), "the service itself is the same"


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("{warm_up_s: 0}", "backends[0].cold_start.warm_up_s: input should be greater than 0 (got 0)"),
        ("{warm_up_s: -1}", "backends[0].cold_start.warm_up_s: input should be greater than 0"),
        ("{warm_up_s: 86401}", "less than or equal to 86400"),
        ("{warm_up_s: 90s}", "backends[0].cold_start.warm_up_s: input should be a valid number"),
        ("{warm_up_s: .inf}", "backends[0].cold_start.warm_up_s"),
        ("{idle_after_s: 9}", "backends[0].cold_start.warm_up_s: is required"),
        ("{warm_up_s: 9, idle_after_s: 0}", "backends[0].cold_start.idle_after_s: input should be greater than 0"),
        ("{warm_up_s: 9, starts: hot}", "input should be 'cold' or 'warm' (got 'hot')"),
        ("{warmup_s: 9}", "unknown key; did you mean 'warm_up_s'?"),
        ("true", "backends[0].cold_start"),
    ],
)
def test_a_mistake_in_a_cold_start_is_named(tmp_path: Path, block: str, says: str) -> None:
    found = problems(tmp_path, LIVE + f"    cold_start: {block}\n")
    assert any(says in problem for problem in found), found
    assert all(problem.split(":")[0].isdigit() for problem in found)


def test_pings_that_keep_a_cold_service_awake_are_warned_of(tmp_path: Path) -> None:
    assert not loaded(tmp_path, LIVE + COLD).warnings
    (warning,) = loaded(tmp_path, LIVE + COLD + "    monitor: {interval_s: 7}\n").warnings
    assert "pinged every 7 s may never become cold" in warning
