"""Files that read differently; files that were only touched."""

from __future__ import annotations

import os
from pathlib import Path

from app.config.load import load, shipped
from app.config.watch import Watched


def test_content_counts_and_time_alone_does_not(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    watched = Watched([file, tmp_path])
    assert not watched.changed()
    os.utime(file, (1, 1))
    assert not watched.changed()
    file.write_text("two")
    assert watched.changed()
    assert not watched.changed()
    (tmp_path / "b.yaml").write_text("")
    assert watched.changed()
    (tmp_path / "b.txt").write_text("")
    assert not watched.changed()
    file.unlink()
    assert watched.changed()
    assert not watched.changed()
    file.write_text("two")
    assert watched.changed()


def test_everything_a_configuration_is_read_from_is_watched(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-of-16-characters\n")
    path = tmp_path / "my.yaml"
    path.write_text(f"version: 1\nextends: base.yaml\nserver: {{admin_token: '${{file:{token}}}'}}\n")
    base = tmp_path / "base.yaml"
    base.write_text((shipped() / "turnout.yaml").read_text())
    (tmp_path / "policies").mkdir()
    for policy in (shipped() / "policies").glob("*.yaml"):
        (tmp_path / "policies" / policy.name).write_text(policy.read_text())
    files = set(load(path).files)
    assert {path, base, token, tmp_path / "policies", tmp_path / "policies" / "lowest-cost.yaml"} <= files
    assert shipped() / "substrates" in files
