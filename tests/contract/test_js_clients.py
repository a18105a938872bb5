"""Official JavaScript clients (openai, @anthropic-ai/sdk, the AI SDK) against a real gateway process."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateways import serving
from tests.javascript import checks, node, problems

CHECKS = checks("suite.mjs")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What went wrong with each check."""
    node()
    with serving(tmp_path_factory.mktemp("gateway")) as gateway:
        return asyncio.run(problems("suite.mjs", gateway.url, "llama-3.1-8b"))


@pytest.mark.parametrize("check", CHECKS)
def test_check(found: dict[str, str | None], check: str) -> None:
    assert check in found
    assert found[check] is None, found[check]


def test_the_list_is_whole() -> None:
    assert len(CHECKS) >= 20
