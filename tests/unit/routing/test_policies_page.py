"""docs/policies.md says what there is: every plugin, parameter, default and shipped policy, and examples that load.

docs/api.md has every reason that a decision may give.
"""

from __future__ import annotations

import ast
import re
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from app.config.deciding import PolicyConfig
from app.config.load import load
from app.routing import discovery, filters, pickers, scorers

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
SECTIONS = [("Scorers", scorers), ("Pickers", pickers)]


def tables(heading: str) -> list[list[dict[str, str]]]:
    """The tables of a section, rows by column."""
    section = re.split(r"^## ", PAGE.split(f"\n## {heading}\n", 1)[1], flags=re.MULTILINE)[0]
    found = []
    for text in re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        assert all(len(row) == len(head) for row in rows), text
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def names(rows: list[dict[str, str]]) -> list[str]:
    """What the first column names, without the quotes."""
    return [next(iter(row.values())).strip("`") for row in rows]


def documented(heading: str) -> dict[str, dict[str, float]]:
    """Parameters with their defaults, by plugin, from whatever table of the section has them."""
    found: dict[str, dict[str, float]] = {}
    for rows in tables(heading):
        for name, row in zip(names(rows), rows, strict=True):
            params = found.setdefault(name, {})
            if row.get("parameter", "-") != "-":
                assert row["parameter"].strip("`") not in params
                assert row["unit"] not in ("", "-"), f"{name}.{row['parameter']} has no unit"
                params[row["parameter"].strip("`")] = float(row["default"])
    return found


def real(package: ModuleType) -> dict[str, dict[str, float]]:
    """The same from the code; a parameter without a default is NaN, which the page cannot say."""
    return {
        name: {
            param: float("nan") if details.default is Parameter.empty else float(details.default)
            for param, details in signature(import_module(f"{package.__name__}.{name}").make).parameters.items()
        }
        for name in discovery.names(package)
    }


def made_of(policy: PolicyConfig) -> str:
    """As the page writes it."""
    parts = ", ".join(f"`{each.use}` {each.weight:g}" for each in policy.scorers)
    return f"`{policy.picker.use}`" + (f" of {parts}" if parts else "")


@pytest.mark.parametrize(("heading", "package"), SECTIONS, ids=["scorers", "pickers"])
def test_every_scorer_and_picker_stands_there_with_its_parameters_and_defaults(
    heading: str, package: ModuleType
) -> None:
    assert documented(heading) == real(package)
    assert names(tables(heading)[0]) == list(discovery.names(package))


def test_every_hard_filter_stands_there() -> None:
    (rows,) = tables("Hard filters")
    assert names(rows) == [each.name for each in discovery.hard_filters()] == list(discovery.names(filters))


def test_every_shipped_policy_stands_there_and_is_made_of_what_it_says() -> None:
    (rows,) = tables("Shipped policies")
    said = dict(zip(names(rows), [row["made of"] for row in rows], strict=True))
    assert said == {name: made_of(policy) for name, policy in load().config.policies.items()}


def test_a_default_that_differs_or_a_missing_plugin_is_seen() -> None:
    """The page is really read: what it says of one scorer and one picker."""
    assert documented("Scorers")["tpot"] == {"ref_s": 0.02}
    assert documented("Pickers")["cheapest_feasible"]["worth"] == 0.25
    assert documented("Pickers")["p2c"] == {}


def test_the_examples_are_accepted_and_a_folder_of_ones_own_stands_in_for_the_shipped_one(tmp_path: Path) -> None:
    blocks = re.findall(r"`([\w/]+\.yaml)`:\n\n((?:    .*\n|\n)+)", PAGE)
    assert [name for name, _ in blocks] == ["turnout.yaml", "turnout.yaml", "policies/roomy.yaml"]
    (_, more), (_, own), (_, roomy) = blocks
    main = tmp_path / "turnout.yaml"
    main.write_text(dedent(more), encoding="utf-8")
    assert set(load(main).config.policies) == {*load().config.policies, "thrifty"}
    main.write_text(dedent(own), encoding="utf-8")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "roomy.yaml").write_text(dedent(roomy), encoding="utf-8")
    assert set(load(main).config.policies) == {"roomy"}


def reasons(tree: ast.AST) -> set[str]:
    """What the code of a module gives as a decision's reason: of a `Pick`, assigned to one, or returned by name."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Pick":
            found.append(node.args[1])
        elif isinstance(node, ast.Assign) and any(
            isinstance(name, ast.Name) and name.id in ("reason", "why")
            for target in node.targets
            for name in ast.walk(target)
        ):
            found.append(node.value)
        elif isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id == "str":
            found += [each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value is not None]
        elif isinstance(node, ast.keyword) and node.arg == "reason":
            found.append(node.value)
    constants = {each.value for part in found for each in ast.walk(part) if isinstance(each, ast.Constant)}
    return {each for each in constants if isinstance(each, str)}


def test_every_decision_reason_is_listed() -> None:
    files = [*(ROOT / "app" / "routing").rglob("*.py"), ROOT / "app" / "fleet" / "fleet.py"]
    given = {reason for file in files for reason in reasons(ast.parse(file.read_text(encoding="utf-8")))}
    lists = API.split("\n## Receipt\n", 1)[1]
    assert set(re.findall(r"^\| `(\w+)` \|", lists, re.MULTILINE)) == given
    mine = {reason for row in tables("Pickers")[0] for reason in re.findall(r"`(\w+)`", row["reasons"])}
    assert mine <= given
