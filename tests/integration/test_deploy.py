"""The deploy files, checked with their own tools: hadolint, docker compose, promtool; boards against the metrics."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.config.load import load
from app.wiring import build
from tests.fakes import ScriptedBackend
from tests.gateways import scripted_config

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
GRAFANA = ROOT / "deploy" / "grafana"
METRIC = re.compile(r"\bturnout_[a-z0-9_]+")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )


def tool(name: str) -> str:
    """A tool from this environment's wheels, or from PATH; skips, saying why, where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (make test installs it with apt when run as root)")
    return found


def exported(tmp_path: Path) -> set[str]:
    """Every series name the gateway can export, histogram suffixes included."""
    backend = ScriptedBackend("a")
    metrics = build(scripted_config(tmp_path, [backend]), None, {"a": backend}).metrics
    names = set()
    for family in metrics.registry.collect():
        if family.type == "counter":
            names.add(f"{family.name}_total")
        elif family.type == "histogram":
            names |= {f"{family.name}_{suffix}" for suffix in ("bucket", "count", "sum")}
        else:
            names.add(family.name)
    return names


def test_dockerfile_is_clean() -> None:
    done = run(tool("hadolint"), "Dockerfile")
    assert done.returncode == 0, done.stdout


def test_compose_is_valid_and_closed_to_the_outside() -> None:
    done = run(tool("docker-compose"), "-f", "docker-compose.yml", "config", "-q")
    assert done.returncode == 0, done.stderr
    composed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert set(composed["services"]) == {"gateway", "redis", "prometheus", "grafana"}
    for service in composed["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_containers_configuration_loads(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "docker" / "turnout.yaml").read_text()
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    path = tmp_path / "turnout.yaml"
    path.write_text(text.replace("/run/secrets/turnout_admin_token", str(token)))
    config = load(path).config
    assert (config.server.host, config.server.admin_token) == ("0.0.0.0", "0123456789abcdef0123456789abcdef")
    assert config.cache.type == "redis"
    assert len(config.backends) == 13


def test_prometheus_accepts_its_configuration_and_rules() -> None:
    promtool = tool("promtool")
    for command in (["check", "rules", "rules/turnout.yml"], ["test", "rules", "tests/turnout.test.yml"]):
        done = subprocess.run(
            [promtool, *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    checked = run(promtool, "check", "config", "--syntax-only", "deploy/prometheus/prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_board_is_what_its_script_writes() -> None:
    written = runpy.run_path(str(GRAFANA / "board.py"))["board"]()
    assert json.loads((GRAFANA / "dashboards" / "turnout.json").read_text()) == written


def test_boards_and_rules_name_only_metrics_that_exist(tmp_path: Path) -> None:
    known = exported(tmp_path)
    board = json.loads((GRAFANA / "dashboards" / "turnout.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    rules = yaml.safe_load((PROMETHEUS / "rules" / "turnout.yml").read_text())
    listed = [rule for group in rules["groups"] for rule in group["rules"]]
    recorded = {name for rule in listed if "record" in rule for name in METRIC.findall(rule["record"])}
    expressions += [rule["expr"] for rule in listed]
    assert len(expressions) > 20
    for expression in expressions:
        # A recorded series' middle part is not a metric; it is preceded by a colon.
        for name in re.findall(r"(?<![:\w])turnout_[a-z0-9_]+", expression):
            assert name in known, f"{name} in {expression}"
    assert recorded


def test_every_expression_of_the_board_parses(tmp_path: Path) -> None:
    board = json.loads((GRAFANA / "dashboards" / "turnout.json").read_text())
    rules = [
        {"record": f"board:panel{panel['id']}:{number}", "expr": target["expr"].replace("$__rate_interval", "1m")}
        for panel in board["panels"]
        for number, target in enumerate(panel.get("targets", []))
    ]
    path = tmp_path / "board.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    done = run(tool("promtool"), "check", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_metric_is_documented_and_every_documented_metric_exists(tmp_path: Path) -> None:
    backend = ScriptedBackend("a")
    metrics = build(scripted_config(tmp_path, [backend]), None, {"a": backend}).metrics
    documented = set(
        re.findall(r"^\| `(turnout_[a-z0-9_]+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    assert documented == metrics.names()
