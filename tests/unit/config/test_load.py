"""Configuration: every problem at once, each with file:line:column and a suggestion; good ones load whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from app.config import deciding, models
from app.config.load import LoadedConfig, load, redacted, schema, shipped
from app.config.section import Section
from app.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]

GOOD = """\
version: 1
slo:
  interactive: {ttft_ms: 1000, tpot_ms: 50}
models:
  llama-3.1-8b: {slo: interactive}
backends:
  - name: h100-8b
    kind: gpu
    chip: h100
    chips: 1
    deployments: [{model: llama-3.1-8b, precision: fp8}]
    pricing:
      type: chip_hours
      usd_per_chip_hour: 3.99
      source: a price list
      confidence: vendor-stated
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "turnout.yaml"
    path.write_text(text)
    return path


def problems(folder: Path, text: str, **environment: str) -> list[str]:
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(path, environment)
    return [problem.removeprefix(f"{path}:") for problem in caught.value.problems]


def test_the_shipped_example_loads_and_builds() -> None:
    loaded = load()
    assert {backend.kind for backend in loaded.config.backends} == {
        "maia", "groq", "tpu", "trainium", "gpu", "cerebras",
    }  # fmt: skip
    for model in loaded.config.models:
        serving = {b.kind for b in loaded.config.backends if b.deployments[0].model == model}
        assert len(serving) == 6, f"{model} must be a choice between all substrates"
    assert any("maia-70b" in warning and "assumed" in warning for warning in loaded.warnings)


def test_the_smallest_useful_file_loads(tmp_path: Path) -> None:
    loaded = load(write(tmp_path, GOOD))
    assert loaded.config.routing.default_policy == "cheapest-slo"
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version: 1", "version: 2", "1:1: version: input should be 1 (got 2)"),
        ("chips: 1", "chipz: 1", "10:5: backends[0].chipz: unknown key; did you mean 'chips'?"),
        ("chips: 1", "chips: 1\n    url: http://x", "11:5: backends[0].url: not a key of this entry: another mode"),
        ("chips: 1", "chips: 0", "10:5: backends[0].chips: input should be greater than 0 (got 0)"),
        ("kind: gpu", "kind: gpx", "8:5: backends[0].kind: input should be 'maia', 'groq', 'tpu'"),
        ("slo: interactive}", "slo: interactiv}", "5:18: models.llama-3.1-8b.slo: there is no SLO class 'interactiv'; did"),
        ("model: llama-3.1-8b,", "model: llama-3.1-8,", "11:20: backends[0].deployments[0].model: there is no model"),
        ("chip: h100", "chip: h10", "7:5: backends[0].name: 'h100-8b': there is no datasheet for chip 'h10'; did you mean"),
        ("precision: fp8", "precision: fp4", "7:5: backends[0].name: 'h100-8b': NVIDIA H100 SXM states no fp4 rate"),
        ("3.99", "-3", "14:7: backends[0].pricing.usd_per_chip_hour: input should be greater than or equal to 0"),
        ("3.99", ".nan", "14:7: backends[0].pricing.usd_per_chip_hour: input should be a finite number"),
        ("type: chip_hours", "type: chips", "12:5: backends[0].pricing: there is no type 'chips'; did you mean 'chip_hours'?"),
        ("      source: a price list\n", "", "12:5: backends[0].pricing.source: is required"),
        ("version: 1", "version: 1\nversion: 1", "2:1: version: the key is given twice"),
        ("version: 1", "version: 1\nrouting: {default_policy: cheapest}", "2:11: routing.default_policy: there is no policy"),
        ("version: 1", "version: 1\nserver: {admin_host: 0.0.0.0}", "2:10: server.admin_host: an admin port that is not on"),
        ("version: 1", "version: 1\nserver: {port: 99999}", "2:10: server.port: input should be less than or equal"),
        ("version: 1", "version: 1\nserver: {port: 81, admin_port: 81}", "2:20: server.admin_port: the API and the admin"),
        ("version: 1", "version: 1\ncache: {type: redis, url: http://x}", "2:22: cache.url: string should match pattern"),
        ("version: 1", "version: 1\nserver: {host: '${NOT_SET_ANYWHERE}'}", "2:10: server.host: the environment variable"),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {picker: {use: max_scor}}}",
            "2:28: policies.mine.picker.use: there is no picker 'max_scor'; did you mean 'max_score'?",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {picker: {use: max_score}}}",
            "2:19: policies.mine.picker: 'max_score' chooses by score, and this policy has no scorers",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {picker: {use: cheapest_feasible, params: {bnad: 0}}}}",
            "2:61: policies.mine.picker.params.bnad: 'cheapest_feasible' has no such parameter; did you mean 'band'?",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {scorers: [{use: cost, weight: 1, params: {ref_usd: 0}}], picker: {use: max_score}}}",
            "2:61: policies.mine.scorers[0].params.ref_usd: input should be greater than 0",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {scorers: [{use: cots, weight: 1}], picker: {use: max_score}}}",
            "2:30: policies.mine.scorers[0].use: there is no scorer 'cots'; did you mean 'cost'?",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {scorers: [{weight: 1}], picker: {use: max_score}}}",
            "2:29: policies.mine.scorers[0].use: is required",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {scorers: [{use: cost}], picker: {use: max_score}}}",
            "2:29: policies.mine.scorers[0].weight: is required",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {scorers: [{use: cost, weight: 0}], picker: {use: max_score}}}",
            "2:41: policies.mine.scorers[0].weight: input should be greater than 0 (got 0)",
        ),
        ("version: 1", "version: 1\npolicies: none", "2:1: policies: input should be a valid dictionary (got 'none')"),
        ("version: 1", "version: 1\nserver: {host: 0.0.0.0, port: 81, admin_port: 81}", "2:35: server.admin_port: the API"),
        ("version: 1", "version: 1\nserver: {drain_timeout_s: .inf}", "2:10: server.drain_timeout_s: input should be a finite"),
        ("version: 1", "version: 1\nextends: shiped", "2:1: extends: 'shiped' cannot be extended; did you mean 'shipped'?"),
        ("version: 1", "version: 1\nextends: 3", "2:1: extends: must be a file's name"),
        ("precision: fp8", "precision: fp8, software: vlm", "7:5: backends[0].name: 'h100-8b': there is no datasheet for NVIDIA H100 SXM with software 'vlm'; did you mean 'vllm'?"),
        ("chips: 1", "chips: yes", "10:5: backends[0].chips: input should be a valid integer"),
        ("a price list", "a pri\x07ce list", "15:20: the character '\\x07' is not allowed"),
        ("version: 1", "version: 1\naliases: {fast: llama-3.1-8}", "2:11: aliases.fast: there is no model 'llama-3.1-8'; did you mean"),
        ("version: 1", "version: 1\naliases: {p: {llama-3.1-8b: 1, x: 2}}", "2:32: aliases.p.x: there is no model 'x'"),
        ("version: 1", "version: 1\naliases: {p: {llama-3.1-8b: 0}}", "2:11: aliases.p: at least one weight must be more"),
        ("version: 1", "version: 1\naliases: {p: {llama-3.1-8b: -1}}", "2:15: aliases.p.llama-3.1-8b: input should be greater"),
        ("version: 1", "version: 1\naliases: {llama-3.1-8b: llama-3.1-8b}", "2:11: aliases.llama-3.1-8b: the name 'llama-3.1-8b' is taken"),
        ("version: 1", "version: 1\naliases: {p: {}}", "2:11: aliases.p: needs at least one entry"),
        ("version: 1", "version: 1\naliases: {p: [a]}", "2:11: aliases.p: input should be a valid string"),
        ("version: 1", "version: 1\nrouting: {epsilon: 3}", "2:11: routing.epsilon: unknown key; did you mean 'routing.exploration.epsilon'?"),
        ("version: 1", "version: 1\nport: 80", "2:1: port: unknown key; did you mean 'server.port'?"),
        ("version: 1", "version: 1\ncache: {type: off, max_bytes: 5}", "2:20: cache.max_bytes: not a key of this entry: an"),
        ("chips: 1", "chips: 1\n    urll: http://x", "11:5: backends[0].urll: unknown key (there are: name, pricing,"),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {filters: [], picker: {use: cheapest_feasible}}}",
            "2:19: policies.mine.filters: unknown key (there are: description, scorers, picker)",
        ),
        (
            "version: 1",
            "version: 1\npolicies: {mine: {scorer: [], picker: {use: cheapest_feasible}}}",
            "2:19: policies.mine.scorer: unknown key; did you mean 'scorers'?",
        ),
        ("version: 1", "version: [1", "2:4: did not find expected"),
        ("version: 1", "version: *nowhere", "1:10: found undefined alias"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    assert any(problem.startswith(expected) for problem in found), found


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("cache: {type: redis, url: 'redis://h:notaport/0'}", "cache.url: value error, needs a host and"),
        ("cache: {type: redis, url: 'redis://h/0?foo=bar'}", "cache.url: value error, unknown options in the URL: foo"),
        ("cache: {type: redis, url: 'redis:///0'}", "cache.url: value error, needs a host"),
        ("cache: {type: redis, url: 'redis://h/zero'}", "cache.url: value error, the path must be"),
        ("cache: {type: memory, max_bytes: 100000, max_value_bytes: 200000}", "cache.max_value_bytes: is more than"),
        ("routing: {receipts_kept: 1000000000000}", "routing.receipts_kept: input should be less than"),
        ("server: {drain_delay_s: -1}", "server.drain_delay_s: input should be greater"),
        (
            "policies: {p: {scorers: [{use: cost, weight: 1}], picker: {use: cheapest_feasible}}}",
            "policies.p.scorers: the picker 'cheapest_feasible' does not look at scores",
        ),
    ],
)
def test_what_could_not_be_served_is_refused_here(tmp_path: Path, section: str, expected: str) -> None:
    found = problems(tmp_path, GOOD + section + "\n")
    assert any(problem.split(": ", 1)[1].startswith(expected) for problem in found), found


def test_a_reference_backend_must_serve_the_model(tmp_path: Path) -> None:
    models = "llama-3.1-8b: {slo: interactive, reference_backend: h100-70b}\n  llama-3.3-70b: {slo: interactive}"
    backend = GOOD[GOOD.index("  - name") :].replace("llama-3.1-8b", "llama-3.3-70b").replace("h100-8b", "h100-70b")
    text = GOOD.replace("llama-3.1-8b: {slo: interactive}", models) + backend.replace("chips: 1", "chips: 4")
    assert any("no backend of this model 'h100-70b'" in problem for problem in problems(tmp_path, text))
    assert load(write(tmp_path, text.replace("reference_backend: h100-70b", "reference_backend: h100-8b")))
    capped = GOOD.replace("{slo: interactive}", "{slo: interactive, default_max_tokens: 9, max_tokens_cap: 8}")
    assert any("is more than max_tokens_cap" in problem for problem in problems(tmp_path, capped))


def test_the_hash_knows_everything_but_secrets_and_the_epoch_only_what_changes_answers(tmp_path: Path) -> None:
    def loaded(section: str, text: str = GOOD) -> tuple[str, str]:
        made = load(write(tmp_path, text + section + "\n"))
        return made.hash, made.epoch

    base = loaded("cache: {type: redis, url: 'redis://:one@h/0'}")
    assert loaded("cache: {type: redis, url: 'redis://:two@h/0'}") == base
    port = loaded("cache: {type: redis, url: 'redis://:one@h/0'}\nserver: {port: 81}")
    assert port[0] != base[0]
    assert port[1] == base[1]
    price = loaded("", GOOD.replace("3.99", "4"))
    assert price[0] != loaded("")[0]
    assert price[1] == loaded("")[1]
    assert loaded("", GOOD.replace("fp8", "bf16"))[1] != loaded("")[1]


def test_secrets_from_files_are_read_in_every_file(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "secret").write_text("a word\n")
    policy = tmp_path / "policies" / "cheapest-slo.yaml"
    policy.write_text(f"description: ${{file:{tmp_path}/secret}}\npicker: {{use: cheapest_feasible}}\n")
    assert load(write(tmp_path, GOOD)).config.policies["cheapest-slo"].description == "a word"


def test_a_list_or_section_without_an_entry_is_said_in_words(tmp_path: Path) -> None:
    text = GOOD[: GOOD.index("models:")] + "models: {}\nbackends: []\n"
    assert problems(tmp_path, text) == [
        "4:1: models: needs at least one entry",
        "5:1: backends: needs at least one entry",
    ]


def test_a_policy_that_is_missing_is_said_with_the_folder_they_came_from(tmp_path: Path) -> None:
    wrong = GOOD + "routing: {default_policy: nobody}\n"
    assert problems(tmp_path, wrong)[0].endswith(f"; those in files are from {shipped() / 'policies'})")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mine.yaml").write_text("picker: {use: cheapest_feasible}\n")
    (problem,) = problems(tmp_path, GOOD)
    folder = tmp_path / "policies"
    assert "there is no policy 'cheapest-slo' (there are: mine; those in files are from" in problem
    assert problem.endswith(f" {folder}, which stands in for the shipped ones)")


def test_every_mistake_is_reported_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, GOOD.replace("chips: 1", "chips: none").replace("version: 1", "version: 7\nmodel: {}"))
    assert [problem.split(": ")[0] for problem in found] == ["1:1", "11:5", "2:1"]


@pytest.mark.parametrize("text", ["", "[]", "just text", "- 1", "null", "{}"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_names_may_not_clash(tmp_path: Path) -> None:
    backend = GOOD[GOOD.index("  - name") :]
    assert any("given twice" in problem for problem in problems(tmp_path, GOOD + backend))
    aliased = GOOD.replace("{slo: interactive}", "{slo: interactive, aliases: [llama-3.1-8b]}")
    assert any("is taken" in problem for problem in problems(tmp_path, aliased))


def test_a_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "expands to more than" in problems(tmp_path, "\n".join(lines))[0]


def test_what_does_not_fit_says_by_how_much_and_what_would(tmp_path: Path) -> None:
    text = GOOD.replace("llama-3.1-8b", "llama-3.3-70b").replace("precision: fp8", "precision: bf16")
    found = problems(tmp_path, text)
    assert found[0].startswith("7:5: backends[0].name:")
    assert "GB too little; the smallest group that fits is 2" in found[0]


def test_environment_fills_text_only(tmp_path: Path) -> None:
    text = GOOD.replace(
        "version: 1", "version: 1\nserver: {host: '${HOST}', admin_token: '${TOKEN:-a-default-of-16-chars}'}"
    )
    loaded = load(write(tmp_path, text), {"HOST": "127.0.0.9"})
    assert loaded.config.server.host == "127.0.0.9"
    assert loaded.config.server.admin_token == "a-default-of-16-chars"


def test_words_of_truth_are_words(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD + "cache: {type: off}\n")).config.cache.type == "off"
    drained = load(write(tmp_path, GOOD.replace("chips: 1", "chips: 1\n    drained: yes")))
    assert drained.config.backends[0].drained
    assert drained.warnings == ("model 'llama-3.1-8b': every backend that serves it is drained",)


def test_any_loopback_address_needs_no_token(tmp_path: Path) -> None:
    for host in ("127.0.0.2", "'::1'", "localhost"):
        assert load(write(tmp_path, GOOD + f"server: {{admin_host: {host}}}\n")).config.server.admin_token is None


def test_file_names_that_are_none_are_refused(tmp_path: Path) -> None:
    assert "cannot be extended" in problems(tmp_path, 'version: 1\nextends: "a\\0b"\n')[0]
    secret = problems(tmp_path, GOOD + 'server: {admin_token: "${file:a\\0b}"}\n')
    assert any("cannot be read: ValueError" in problem for problem in secret)


def test_secrets_are_not_printed(tmp_path: Path) -> None:
    text = GOOD.replace(
        "version: 1",
        "version: 1\nserver: {admin_token: '${TOKEN:-sesame-sesame-sesame}'}\ncache: {type: redis, url: 'redis://:hunter2@h:1/0'}",
    )
    loaded = load(write(tmp_path, text))
    in_query = load(write(tmp_path, text.replace(":hunter2@h:1/0", "h:1/0?password=hunter2")))
    for shown in (json.dumps(redacted(loaded.config)), json.dumps(redacted(in_query.config)), repr(loaded)):
        assert "sesame" not in shown
        assert "hunter2" not in shown
    assert redacted(loaded.config)["cache"]["url"] == "redis://********@h:1/0"
    short = problems(tmp_path, text.replace("sesame-sesame-sesame", "short-secret"))
    assert short
    assert "short-secret" not in " ".join(short)


KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def cached(folder: Path, section: str) -> LoadedConfig:
    return load(write(folder, GOOD.replace("version: 1", f"version: 1\ncache: {section}")))


def test_keys_of_the_cache_are_not_printed(tmp_path: Path) -> None:
    text = f"{{type: redis, url: 'redis+sentinel://u:hunter2@a:1,b:2/main/0?sentinel_password=s3', encryption_keys: ['${{CACHE_KEY:-{KEY}}}']}}"
    loaded = cached(tmp_path, text)
    shown = json.dumps(redacted(loaded.config)) + repr(loaded)
    assert not any(secret in shown for secret in (KEY, "hunter2", "s3"))
    assert redacted(loaded.config)["cache"]["url"] == "redis+sentinel://********@a:1,b:2/main/0?********"
    (bare,) = problems(
        tmp_path,
        GOOD.replace("version: 1", f"version: 1\ncache: {{type: redis, url: 'redis://h', encryption_keys: [{KEY}]}}"),
    )
    assert "cache.encryption_keys[0]: a secret must not stand in the file" in bare
    assert KEY not in bare
    for wrong in (
        f"{{type: redis, url: 'redis://h', encryption_keys: {KEY}x}}",
        "{type: redis, encryption_keys: [hunter2]}",
    ):
        told = " ".join(problems(tmp_path, GOOD.replace("version: 1", f"version: 1\ncache: {wrong}")))
        assert told
        assert KEY not in told
        assert "hunter2" not in told


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://:p@h:1/2?ssl_cert_reqs=none",
        "unix:///tmp/s",
        "redis+sentinel://a,b:2/main",
        "rediss+sentinel://u:p@a:1/main/3?sentinel_username=x",
        "redis+cluster://a:1,b:2",
        "rediss+cluster://u:p@a",
    ],
)
def test_urls_of_a_redis(tmp_path: Path, url: str) -> None:
    assert cached(tmp_path, f"{{type: redis, url: '{url}'}}").config.cache.type == "redis"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{type: redis, url: 'redis://a,b'}", "several hosts need"),
        ("{type: redis, url: 'redis+sentinel://a'}", "the service that sentinels know"),
        ("{type: redis, url: 'redis+sentinel://a/main/x'}", "the service that sentinels know"),
        ("{type: redis, url: 'redis+cluster://a/1'}", "a cluster has one database"),
        ("{type: redis, url: 'redis+cluster://a:0'}", "a port from 1 to 65535"),
        ("{type: redis, url: 'redis+cluster://a,:1'}", "needs a host"),
        ("{type: redis, url: 'redis://h?sentinel_password=x'}", "unknown options"),
        ("{type: redis, url: 'redis+magic://h'}", "cache.url"),
        ("{type: redis, url: 'redis://h', encryption_keys: ['${CACHE_KEY:-c2hvcnQ=}']}", "32 bytes in base64"),
        ("{type: memory, ttl_s: 2592001}", "cache.ttl_s"),
        ("{type: memory, ttl_s: 0}", "cache.ttl_s"),
        ("{type: memory, stale_s: -1}", "cache.stale_s"),
        ("{type: memory, max_followers: 0}", "cache.max_followers"),
    ],
)
def test_what_no_cache_can_be_made_of(tmp_path: Path, section: str, says: str) -> None:
    (told,) = problems(tmp_path, GOOD.replace("version: 1", f"version: 1\ncache: {section}"))
    assert says in told


def test_the_hash_follows_content_not_spelling(tmp_path: Path) -> None:
    first = load(write(tmp_path, GOOD)).hash
    assert load(write(tmp_path, "# a comment\n" + GOOD)).hash == first
    assert load(write(tmp_path, GOOD.replace("3.99", "4.00"))).hash != first


def test_folders_beside_the_file_stand_in_for_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "mine.yaml").write_text("picker: {use: round_robin}\n")
    path = write(tmp_path, GOOD + "routing: {default_policy: mine}\n")
    assert set(load(path).config.policies) == {"mine"}
    (tmp_path / "policies" / "mine.yaml").write_text("picker: {uze: round_robin}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any(
        "mine.yaml:1:10: policies.mine.picker.uze: unknown key; did you mean 'use'?" in p for p in caught.value.problems
    )
    (tmp_path / "policies" / "mine.yaml").write_text("description: x\npicker: {use: round_robbin}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any("mine.yaml:2:10: policies.mine.picker.use: there is no picker" in p for p in caught.value.problems)
    path.write_text(path.read_text() + "policies: {mine: {picker: {use: round_robin}}}\n")
    assert load(path).config.policies["mine"].picker.use == "round_robin", "inline wins"


def test_every_shipped_figure_has_a_source_or_says_why_not() -> None:
    for name, chip in load().sheets.chips.items():
        for field in chip.__slots__:
            figure = getattr(chip, field)
            if hasattr(figure, "confidence"):
                if figure.value is None:
                    assert figure.confidence == "not public", f"{name}.{field}"
                else:
                    assert figure.source or figure.note, f"{name}.{field} has neither source nor note"
                    assert figure.confidence != "not public", f"{name}.{field}"


def test_the_published_schema_is_fresh_and_describes_the_example() -> None:
    import jsonschema
    import yaml

    published = json.loads((ROOT / "config" / "schema.json").read_text())
    assert published == schema(), "run `make schema`"
    text = (shipped() / "turnout.yaml").read_text()
    jsonschema.Draft202012Validator(published).validate(yaml.safe_load(text))


def test_the_example_is_whole_and_shows_defaults() -> None:
    text = (shipped() / "turnout.yaml").read_text()
    named = (*vars(models).values(), *vars(deciding).values())
    sections = [each for each in named if isinstance(each, type) and issubclass(each, Section)]
    keys = {key for section in sections for key in section.model_fields}
    assert len(keys) > 60
    missing = {key for key in keys if not re.search(rf"\b{key}\b", text)}
    assert not missing, f"config/turnout.yaml should show {missing}"
    example, plain = load(None, {}).config, models.Config.model_construct()
    for name in ("server", "routing", "dispatch", "cache", "ledger"):
        assert getattr(example, name) == getattr(plain, name), name


def test_a_file_may_extend_the_shipped_one_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret-from-a-file\n")
    text = "version: 1\nextends: shipped\nserver: {port: 9000, admin_token: '${file:%s}'}\n" % (tmp_path / "secret")
    loaded = load(write(tmp_path, text))
    assert (loaded.config.server.port, loaded.config.server.admin_port) == (9000, 8081)
    assert loaded.config.server.admin_token == "a-secret-from-a-file"
    assert len(loaded.config.backends) == 13
    missing = problems(tmp_path, text.replace("/secret}", "/nowhere}"))
    assert "nowhere cannot be read: FileNotFoundError" in missing[0]
    wrong = problems(tmp_path, "version: 1\nextends: shipped\nmodels: {x: {}}\n")
    assert any(problem.startswith("3:10: models.x: no backend serves this model") for problem in wrong)
    assert any("turnout.yaml:" in problem and "there is no model 'llama-3.3-70b'" in problem for problem in wrong)
    write(tmp_path, "version: 1\nextends: other.yaml\n").with_name("other.yaml").write_text("extends: shipped\n")
    with pytest.raises(ConfigError, match="only one level"):
        load(tmp_path / "turnout.yaml")
