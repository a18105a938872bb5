"""docs/emulate.md says what the server does."""

from __future__ import annotations

import re
from pathlib import Path

from app.cli.emulate import command
from app.emulate.faults_file import read
from backends.emulator.faults import KINDS
from tests.upstreams import emulating

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "emulate.md").read_text()


async def test_every_metric_is_documented_and_every_documented_one_is_there() -> None:
    async with emulating() as upstream:
        body, _ = upstream.server.metrics.render("")
    shown = set(re.findall(r"^# TYPE (\S+)", body.decode(), re.MULTILINE))
    assert shown == set(re.findall(r"`((?:vllm:|turnout_emulate_)\w+)`", TEXT))


def test_the_example_of_a_faults_file_is_one_and_shows_every_kind() -> None:
    found = re.search(r"(?m)^    seed: 7\n(?:    .*\n)+", TEXT)
    assert found is not None
    plan = read("\n".join(line[4:] for line in found[0].splitlines()), "docs/emulate.md").plan()
    assert {rule.fault.kind for rule in plan.rules} == set(KINDS)


def test_every_option_is_documented() -> None:
    options = {option for param in command.params for option in param.opts if option.startswith("--")}
    assert not {option for option in options if f"`{option}" not in TEXT}
