"""Tokens counted with a real vocabulary, and what is estimated where there is none."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from app.aliases import table
from app.api import parsing, schemas
from app.call import NO_OPTIONS
from app.config.deciding import SloConfig
from app.config.load import load
from app.config.models import ModelConfig
from app.errors import ConfigError
from app.planning import Planner
from app.vocabularies import COUNTED_CHARACTERS, counter, counters

TEXTS = {"hello world": (2, 2), "tokenization of <|endoftext|> as text": (11, 12), "": (1, 1)}
CONFIG = "version: 1\nextends: shipped\nmodels:\n  llama-3.1-8b: {vocabulary: %s}\n  llama-3.3-70b: {}\n"


@pytest.mark.parametrize("place", [0, 1])
def test_counts_are_those_of_the_vocabulary(place: int) -> None:
    count = counter(("cl100k_base", "o200k_base")[place])
    for text, expected in TEXTS.items():
        assert count(text) == expected[place], text


def test_a_long_text_is_counted_at_its_ends() -> None:
    count = counter("o200k_base")
    text = "a word and another one " * 20_000
    assert len(text) > 10 * COUNTED_CHARACTERS
    assert count(text) == pytest.approx(5 * 20_000, rel=0.01)


def call(**fields: Any) -> Any:
    asked = {"model": "m", "messages": [{"role": "user", "content": "hello world " * 100}], **fields}
    body = json.dumps(asked).encode()
    return parsing.chat_call(schemas.decode_chat(body), body, "r", 0, NO_OPTIONS)


def test_a_plan_counts_by_the_models_vocabulary_and_else_by_characters() -> None:
    models = {"m": ModelConfig(vocabulary="o200k_base")}
    slo = {"interactive": SloConfig()}
    counted = Planner(models, slo, "p", table(models, {}), {"m": counter("o200k_base")})
    guessed = Planner(models, slo, "p", table(models, {}))
    assert counted.plan(call(), {}).route.prompt_tokens in (200, 201)
    assert guessed.plan(call(), {}).route.prompt_tokens == 300


def test_tools_and_calls_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "forecast", "parameters": {"type": "object"}}}
    asked = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"city":"Rome"}'}}
    plain, tooled = call(), call(tools=[tool])
    assert len(tooled.prompts[0]) > len(plain.prompts[0]) + 50
    talked = call(messages=[{"role": "assistant", "content": None, "tool_calls": [asked]}])
    assert "Rome" in talked.prompts[0]


def test_a_configuration_names_it_and_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "turnout.yaml"
    path.write_text(CONFIG % "o200k_base")
    assert set(counters(load(path).config)) == {"llama-3.1-8b"}
    path.write_text(CONFIG % "gpt2")
    with pytest.raises(ConfigError, match="vocabulary"):
        load(path)
    path.write_text(CONFIG % "o200k_base")
    monkeypatch.setattr("app.config.trial.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"4:18: models.llama-3.1-8b.vocabulary: .*turnout\[tokens\]"):
        load(path)
    assert importlib.util.find_spec("bpe_openai") is not None
