"""docs/upstreams.md: every block is a configuration, every dialect is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.config.load import load, to_spec
from app.config.models import LiveBackendConfig
from backends import registry
from backends.clock import VirtualClock
from backends.upstream import dialects
from backends.upstream.backend import LiveBackend

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "upstreams.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")[1:]}


@pytest.mark.parametrize("title", SECTIONS)
def test_a_block_is_a_backend(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = "".join(re.findall(r"(?m)^      .*\n", SECTIONS[title]))
    for name in re.findall(r"\$\{(\w+)\}", block):
        monkeypatch.setenv(name, "sk-secret")
    model = re.findall(r"model: ([\w.-]+)", block.split("deployments:")[1])[0]
    path = tmp_path / "turnout.yaml"
    path.write_text(f"version: 1\nextends: shipped\nmodels: {{{model}: {{}}}}\nbackends:\n{block}")
    loaded = load(path)
    (backend,) = loaded.config.backends
    assert isinstance(backend, LiveBackendConfig)
    built = registry.build(to_spec(backend), loaded.sheets, VirtualClock())
    assert isinstance(built, LiveBackend)
    named = re.search(r"(?m)^Dialect `(\w+)`", SECTIONS[title])
    assert named is not None
    assert type(built.dialect) is dialects.named(named[1])


def test_every_dialect_and_every_kind_is_there() -> None:
    assert set(re.findall(r"(?m)^Dialect `(\w+)`", TEXT)) == set(dialects.names())
    for kind in registry.kinds():
        listed = ", ".join(f"`{name}`" for name in registry.dialects(kind))
        assert f"| `{kind}` | {listed} |" in TEXT
