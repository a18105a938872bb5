"""What differs between two configurations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.config.changes import Setting, compare, lines, same_backend, settings
from app.config.load import LoadedConfig, load
from backends.datasheet import Datasheets

BACKEND = """
  - name: %s
    kind: gpu
    chip: h100
    chips: %d
    deployments: [{model: llama-3.1-8b, precision: fp8}]
    pricing: {type: chip_hours, usd_per_chip_hour: %s, source: test, confidence: assumed}
"""


def loaded(folder: Path, *backends: tuple[str, int, str], head: str = "") -> LoadedConfig:
    path = folder / "turnout.yaml"
    listed = "".join(BACKEND % backend for backend in backends)
    path.write_text(f"version: 1\nextends: shipped\nmodels: {{llama-3.1-8b: {{}}}}\n{head}\nbackends:{listed}")
    return load(path)


def test_backends_that_came_went_and_changed(tmp_path: Path) -> None:
    old = loaded(tmp_path, ("stays", 1, "4"), ("goes", 1, "4"), ("dearer", 1, "4"), ("bigger", 1, "4"))
    new = loaded(tmp_path, ("bigger", 2, "4"), ("stays", 1, "4"), ("dearer", 1, "5"), ("comes", 1, "4"))
    changes = compare(old, new)
    assert changes.backends.added == ("comes",)
    assert changes.backends.removed == ("goes",)
    assert set(changes.backends.changed) == {"dearer", "bigger"}
    assert changes.rebuilt == ("bigger",)
    assert changes
    assert (changes.before, changes.after) == (old.hash, new.hash)


def test_the_same_twice_is_no_change(tmp_path: Path) -> None:
    one, other = loaded(tmp_path, ("a", 1, "4")), loaded(tmp_path, ("a", 1, "4"))
    assert not compare(one, other)
    assert compare(one, other).plain()["changed"] is False


def test_a_changed_datasheet_builds_what_rests_on_it_anew(tmp_path: Path) -> None:
    old = loaded(tmp_path, ("a", 1, "4"))
    chips = {**old.sheets.chips, "h100": replace(old.sheets.chips["h100"], title="another")}
    unrelated = {**old.sheets.chips, "tpu_v6e": replace(old.sheets.chips["tpu_v6e"], title="another")}
    new = replace(old, sheets=Datasheets(chips, old.sheets.models))
    assert compare(old, new).rebuilt == ("a",)
    assert compare(old, new).datasheets == ("h100",)
    assert same_backend(old, replace(old, sheets=Datasheets(unrelated, old.sheets.models)), "a")


def test_what_needs_a_restart_is_named_where_it_stands(tmp_path: Path) -> None:
    old = loaded(tmp_path, ("a", 1, "4"))
    new = loaded(
        tmp_path,
        ("a", 1, "4"),
        head="server: {port: 9000, body_limit_bytes: 5}\nledger: {path: other.sqlite3}\nrouting: {seed: 3}",
    )
    changes = compare(old, new)
    path = tmp_path / "turnout.yaml"
    assert changes.refused == (
        f"{path}:4:10: server.port: cannot change without a restart (it is 8080, 9000 is asked for)",
        f"{path}:5:10: ledger.path: cannot change without a restart "
        "(it is turnout-ledger.sqlite3, other.sqlite3 is asked for)",
    )
    assert set(changes.keys["server"]) == {"port", "body_limit_bytes"}
    assert changes.keys["routing"] == ("seed",)


def test_a_cache_of_another_type_and_sections_by_name(tmp_path: Path) -> None:
    old = loaded(tmp_path, ("a", 1, "4"))
    new = loaded(
        tmp_path, ("a", 1, "4"), head="cache: {type: off}\nslo: {interactive: {ttft_ms: 1}, batch: {e2e_ms: 1}}"
    )
    changes = compare(old, new)
    assert "type" in changes.keys["cache"]
    assert set(changes.named["slo"].changed) == {"interactive", "batch"}
    assert not changes.refused


def test_no_section_is_forgotten(tmp_path: Path) -> None:
    one = loaded(tmp_path, ("a", 1, "4"))
    sections = set(type(one.config).model_fields) - {"version", "extends"}
    assert sections <= set(compare(one, one).plain())


def test_settings_are_told_with_both_values_and_without_secrets(tmp_path: Path) -> None:
    old = loaded(tmp_path, ("a", 1, "4"), ("goes", 1, "4"))
    head = "server: {admin_token: '${TOKEN:-sixteen-characters-at-least}'}\nrouting: {slo_margin: 0.1}"
    new = loaded(tmp_path, ("a", 1, "5"), ("comes", 1, "4"), head=head)
    assert settings(old, new) == [
        Setting("server.admin_token", None, "********"),
        Setting("backends.a.pricing.usd_per_chip_hour", "4", "5"),
        Setting("routing.slo_margin", 0.0, 0.1),
    ]
    assert not settings(old, old)


def test_changes_for_people(tmp_path: Path) -> None:
    old, new = loaded(tmp_path, ("a", 1, "4"), ("goes", 1, "4")), loaded(tmp_path, ("a", 1, "5"), ("comes", 1, "4"))
    assert lines(compare(old, new).plain()) == [
        "  backends added: comes", "  backends removed: goes", "  backends changed: a",
    ]  # fmt: skip
