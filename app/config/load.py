"""Loading a configuration: one YAML file, with policies, chips and models from folders beside it or as shipped.

config/turnout.yaml          what this gateway is; with `extends: shipped`, sections it does not give are taken over
config/policies/*.yaml       one policy a file; `policies:` in turnout.yaml wins
config/substrates/*.yaml     datasheets of chips
config/models/*.yaml         architectures of models
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from app.config import validate
from app.config.models import BackendConfig, Config, PolicyConfig
from app.config.source import Source, parse
from app.errors import ConfigError
from app.routing import discovery, pickers, scorers
from backends.clock import SystemClock
from backends.datasheet import ChipSheet, Datasheets, ModelSheet
from backends.errors import BackendConfigError
from backends.registry import build
from backends.types import BackendSpec, DeploymentSpec, EmulationSpec

MAIN_FILE = "turnout.yaml"
SHIPPED = "shipped"
SECRET = "********"  # noqa: S105 - what stands in for one


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration and everything it rests on. `hash` changes when anything in it does."""

    path: Path
    config: Config
    sheets: Datasheets
    hash: str
    warnings: tuple[str, ...]


def load(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> LoadedConfig:
    """Read, check and cross-check; None loads the shipped example, which is also the embedded default.

    Raises: ConfigError with every problem found.
    """
    path = shipped() / MAIN_FILE if path is None else path
    source = _main(path, environment)
    data = source.data
    problems: list[str] = []
    policies = _folder(path.parent, "policies", environment)
    merged = {file.stem: other.data for file, other in policies.items()}
    config = validate.typed(_CONFIG, {**data, "policies": {**merged, **_mapping(data.get("policies"))}}, source)
    for other in policies.values():
        validate.typed(_POLICY, other.data, other)
        problems += other.problems
    sheets, sheet_problems = _datasheets(path.parent, environment)
    problems += sheet_problems
    if config is not None and not problems and not source.problems:
        validate.cross_check(config, source, discovery.names(scorers), discovery.names(pickers))
    if config is not None and not problems and not source.problems:
        _check_backends(config, sheets, source)
    problems = source.problems + problems
    if problems or config is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    return LoadedConfig(path, config, sheets, _hash(config, sheets), validate.warnings(config))


def _main(path: Path, environment: Mapping[str, str]) -> Source:
    """The main document, laid over the one it extends."""
    source = _document(path, environment)
    base_name = source.data.pop("extends", None)
    if base_name is None:
        return source
    base_path = shipped() / MAIN_FILE if base_name == SHIPPED else path.parent / str(base_name)
    base = _document(base_path, environment)
    if "extends" in base.data:
        raise ConfigError([base.problem(("extends",), f"{base_path} is extended itself: only one level is allowed")])
    return source.over(base)


def _document(path: Path, environment: Mapping[str, str]) -> Source:
    source = parse(_read(path), str(path), environment, lambda file: Path(file).read_text(encoding="utf-8"))
    if not isinstance(source.data, dict):
        raise ConfigError([*source.problems, f"{source.at(())}: the document must be a mapping"])
    return source


def shipped() -> Path:
    """The folder of shipped YAML: beside a checkout, or inside an installed package."""
    here = Path(__file__).resolve()
    beside = here.parents[2] / "config"
    return beside if (beside / MAIN_FILE).is_file() else here.parent / "shipped"


def schema() -> dict[str, Any]:
    """The JSON Schema of turnout.yaml."""
    described = {**Config.model_json_schema(), "title": "Turnout", "required": ["version"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def redacted(config: Config) -> dict[str, Any]:
    """The configuration as plain data without its secrets."""
    dump = config.model_dump(mode="json")
    if dump["server"]["admin_token"] is not None:
        dump["server"]["admin_token"] = SECRET
    url = dump["cache"].get("url")
    if url and "@" in url:
        scheme, _, rest = url.partition("://")
        dump["cache"]["url"] = f"{scheme}://{SECRET}@{rest.rpartition('@')[2]}"
    return dump


def to_spec(backend: BackendConfig) -> BackendSpec:
    """A configured backend as the registry builds it."""
    emulation = backend.emulation
    return BackendSpec(
        name=backend.name,
        kind=backend.kind,
        chip=backend.chip,
        chips=backend.chips,
        deployments=tuple(
            DeploymentSpec(each.model, each.precision, each.context_tokens, each.kv_precision)
            for each in backend.deployments
        ),
        emulation=EmulationSpec(
            emulation.seed,
            emulation.prefill_noise,
            emulation.decode_noise,
            emulation.max_sequences,
            emulation.max_waiting,
        ),
    )


_CONFIG = TypeAdapter(Config)
_POLICY = TypeAdapter(PolicyConfig)
_CHIPS: TypeAdapter[dict[str, ChipSheet]] = TypeAdapter(dict[str, ChipSheet])
_MODEL = TypeAdapter(ModelSheet)


def _check_backends(config: Config, sheets: Datasheets, source: Source) -> None:
    """Build each backend once, so that what does not fit is reported where it stands."""
    clock = SystemClock()
    for index, backend in enumerate(config.backends):
        try:
            build(to_spec(backend), sheets, clock)
        except BackendConfigError as error:
            source.problems.append(source.problem(("backends", index, "name"), f"'{backend.name}': {error}"))


def _datasheets(folder: Path, environment: Mapping[str, str]) -> tuple[Datasheets, list[str]]:
    chips: dict[str, ChipSheet] = {}
    models: dict[str, ModelSheet] = {}
    problems: list[str] = []
    for source in _folder(folder, "substrates", environment).values():
        data = _mapping(source.data)
        substrate = data.get("substrate")
        listed = {
            name: {"substrate": substrate, **_mapping(chip)} for name, chip in _mapping(data.get("chips")).items()
        }
        found: dict[str, ChipSheet] | None = validate.typed(_CHIPS, listed, source, ("chips",))
        chips.update(found or {})
        problems += source.problems
    for file, source in _folder(folder, "models", environment).items():
        model = validate.typed(_MODEL, source.data, source)
        if model is not None:
            models[file.stem] = model
        problems += source.problems
    return Datasheets(chips, models), problems


def _folder(beside: Path, name: str, environment: Mapping[str, str]) -> dict[Path, Source]:
    """The YAML files of a folder beside the configuration, else of the shipped one."""
    folder = beside / name if (beside / name).is_dir() else shipped() / name
    return {file: parse(_read(file), str(file), environment) for file in sorted(folder.glob("*.yaml"))}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}:1:1: cannot be read: {error}"]) from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _hash(config: Config, sheets: Datasheets) -> str:
    listed = [
        config.model_dump(mode="json", exclude={"server": {"admin_token"}}),
        {name: repr(chip) for name, chip in sorted(sheets.chips.items())},
        {name: repr(model) for name, model in sorted(sheets.models.items())},
    ]
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()[:12]
