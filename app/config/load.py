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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import TypeAdapter

from app.config import prices, trial, validate
from app.config.models import Config, EmulatedBackendConfig, LiveBackendConfig
from app.config.source import Source, parse
from app.errors import ConfigError
from app.routing import discovery, pickers, scorers
from backends.datasheet import ChipSheet, Datasheets, ModelSheet
from backends.registry import dialects
from backends.types import (
    BackendSpec,
    ColdStart,
    DeploymentSpec,
    EmulationSpec,
    LatencyProfile,
    LiveDeploymentSpec,
    LiveSpec,
    LiveTimeouts,
    LocalServer,
)

MAIN_FILE = "turnout.yaml"
SHIPPED = "shipped"
SECRET = "********"  # noqa: S105 - what stands in for one


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration and everything it rests on.

    `files` are the files it was read from and the folders that were listed.
    `hash` changes when anything in it does but a secret. `epoch` changes only with what may change an answer (models,
    backends, datasheets): gateways that differ in ports or policies share a cache.
    """

    path: Path
    config: Config
    sheets: Datasheets
    hash: str
    epoch: str
    warnings: tuple[str, ...]
    files: tuple[Path, ...] = ()
    positions: Source = field(default_factory=lambda: Source(""), repr=False)

    def problem(self, path: Sequence[str | int], message: str) -> str:
        """`file:line:column: path: message`."""
        return self.positions.problem(path, message)


@dataclass(frozen=True, slots=True)
class _Disk:
    """Where text and environment come from; `read` are the files (and folders listed) that were asked for."""

    environment: Mapping[str, str]
    read: list[Path] = field(default_factory=list)

    def text(self, path: Path) -> str:
        """Raises: ConfigError."""
        self.read.append(path)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no file name at all
            raise ConfigError([f"{path}:1:1: cannot be read: {error}"]) from None

    def secret(self, name: str) -> str:
        """Raises: OSError; ValueError."""
        self.read.append(Path(name))
        return Path(name).read_text(encoding="utf-8")

    def parsed(self, path: Path) -> Source:
        """Raises: ConfigError."""
        return parse(self.text(path), str(path), self.environment, self.secret)


def load(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> LoadedConfig:
    """Read, check and cross-check; None loads the shipped example, which is also the embedded default.

    Raises: ConfigError with every problem found.
    """
    path = shipped() / MAIN_FILE if path is None else path
    disk = _Disk(environment)
    source = _main(path, disk)
    _add_policies(source, _folder(path.parent, "policies", disk))
    config = validate.typed(_CONFIG, source.data, source)
    profiles: dict[str, list[LatencyProfile]] = {}
    unlisted: tuple[str, ...] = ()
    if config is not None and not source.problems:
        config, unlisted = prices.resolved(config, source)
    sheets, problems = _datasheets(path.parent, disk)
    if config is not None and not problems and not source.problems:
        by_score = discovery.pickers_by_score()
        beside = _policies_in(path.parent)
        validate.cross_check(config, source, discovery.names(scorers), discovery.names(pickers), by_score, beside)
    if config is not None and not source.problems:
        trial.vocabularies(config, source)
    if config is not None and not problems and not source.problems:
        trial.policies(config, source)
        profiles = trial.backends([to_spec(backend) for backend in config.backends], sheets, source)
    say = "a secret must not stand in the file: ${NAME} or ${file:/path} tells it"
    bare = [source.problem(path, say) for path in source.bare_secrets]
    problems = bare + source.problems + problems
    if problems or config is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    warnings = (*unlisted, *validate.warnings(config), *trial.out_of_reach(config, profiles))
    files, positions = tuple(dict.fromkeys(disk.read)), Source(source.file, positions=source.positions)
    return LoadedConfig(path, config, sheets, _hash(config, sheets), _epoch(config, sheets), warnings, files, positions)


def shipped_sheets() -> Datasheets:
    """The shipped chips and models.

    Raises: ConfigError.
    """
    sheets, problems = _datasheets(shipped(), _Disk({}))
    if problems:
        raise ConfigError(problems)
    return sheets


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
    for backend in dump["backends"]:
        if backend.get("api_key") is not None:
            backend["api_key"] = SECRET
        for name in ("secret_access_key", "session_token"):
            if (backend.get("aws") or {}).get(name) is not None:
                backend["aws"][name] = SECRET
    for section in ("cache", "sharing"):
        if "url" in dump[section]:
            dump[section]["url"] = _without_secrets(dump[section]["url"])
    if "encryption_keys" in dump["cache"]:
        dump["cache"]["encryption_keys"] = [SECRET for _ in dump["cache"]["encryption_keys"]]
    return dump


def to_spec(backend: EmulatedBackendConfig | LiveBackendConfig) -> BackendSpec | LiveSpec:
    """A configured backend as the registry builds it."""
    return _live_spec(backend) if isinstance(backend, LiveBackendConfig) else emulated_spec(backend)


def emulated_spec(backend: EmulatedBackendConfig) -> BackendSpec:
    """An emulated one."""
    emulation = backend.emulation
    return BackendSpec(
        name=backend.name,
        kind=backend.kind,
        chip=backend.chip,
        chips=backend.chips,
        deployments=tuple(
            DeploymentSpec(each.model, each.precision, each.context_tokens, each.kv_precision, each.software)
            for each in backend.deployments
        ),
        emulation=EmulationSpec(
            emulation.seed,
            emulation.prefill_noise,
            emulation.decode_noise,
            emulation.max_sequences,
            emulation.max_waiting,
            emulation.prefix_cache,
        ),
        cold_start=cold_start_of(backend),
    )


def cold_start_of(backend: EmulatedBackendConfig | LiveBackendConfig) -> ColdStart | None:
    """How a backend starts cold, if it is declared to."""
    declared = backend.cold_start
    return None if declared is None else ColdStart(declared.warm_up_s, declared.idle_after_s, declared.starts)


def _live_spec(backend: LiveBackendConfig) -> LiveSpec:
    profile = backend.profile
    return LiveSpec(
        name=backend.name,
        kind=backend.kind,
        url=backend.url or "",
        deployments=tuple(LiveDeploymentSpec(**each.model_dump(exclude={"quality"})) for each in backend.deployments),
        api_key=backend.api_key,
        dialect=backend.dialect or dialects(backend.kind)[0],
        api_version=backend.api_version,
        aws=None if backend.aws is None else tuple(backend.aws.model_dump().values()),
        chip=backend.chip,
        chips=backend.chips,
        profile=None
        if profile is None
        else LatencyProfile(
            overhead_s=profile.ttft_ms / 1e3,
            prefill_s_per_token=profile.ttft_ms_per_1k_prompt_tokens / 1e6,
            decode_base_s=profile.tpot_ms / 1e3,
            decode_s_per_sequence=profile.tpot_ms_per_sequence / 1e3,
            max_sequences=profile.max_sequences,
            prefill="shared" if backend.kind == "local" else "parallel",  # one CPU reads all prompts
            network_s=profile.network_ms / 1e3,
        ),
        timeouts=LiveTimeouts(**backend.timeouts.model_dump()),
        max_connections=backend.max_connections,
        server=_server(backend),
        forward_headers=frozenset(backend.forward_headers),
    )


def _server(backend: LiveBackendConfig) -> LocalServer | None:
    if backend.kind != "local":
        return None
    return LocalServer() if backend.server is None else LocalServer(**backend.server.model_dump())


_CONFIG = TypeAdapter(Config)
_CHIPS: TypeAdapter[dict[str, ChipSheet]] = TypeAdapter(dict[str, ChipSheet])
_MODEL = TypeAdapter(ModelSheet)


def _main(path: Path, disk: _Disk) -> Source:
    """The main document, laid over the one it extends."""
    source = _document(path, disk)
    base_name = source.data.pop("extends", None)
    if base_name is None:
        return source
    if not isinstance(base_name, str):
        raise ConfigError([*source.problems, source.problem(("extends",), f"must be a file's name or `{SHIPPED}`")])
    base_path = shipped() / MAIN_FILE if base_name == SHIPPED else path.parent / base_name
    try:
        base = _document(base_path, disk)
    except ConfigError as error:
        hint = validate.suggestion(base_name, [SHIPPED])
        why = source.problem(("extends",), f"'{base_name}' cannot be extended{hint}")
        raise ConfigError([*source.problems, why, *error.problems]) from None
    if "extends" in base.data:
        raise ConfigError([base.problem(("extends",), f"{base_path} is extended itself: only one level is allowed")])
    return source.over(base)


def _document(path: Path, disk: _Disk) -> Source:
    source = disk.parsed(path)
    if not isinstance(source.data, dict):
        raise ConfigError([*source.problems, f"{source.at(())}: the document must be a mapping"])
    return source


def _add_policies(source: Source, files: Mapping[Path, Source]) -> None:
    """Policies of their own files beside those of the main document, which win; positions point where each stands."""
    inline = source.data.get("policies")
    if inline is not None and not isinstance(inline, dict):
        return  # refused as a whole by validation
    policies = dict(inline or {})
    for file, policy in files.items():
        source.problems += policy.problems
        if file.stem not in policies:
            policies[file.stem] = policy.data
            source.positions.update({("policies", file.stem, *path): at for path, at in policy.positions.items()})
    source.data = {**source.data, "policies": policies}


def _datasheets(folder: Path, disk: _Disk) -> tuple[Datasheets, list[str]]:
    chips: dict[str, ChipSheet] = {}
    models: dict[str, ModelSheet] = {}
    problems: list[str] = []
    for source in _folder(folder, "substrates", disk).values():
        data = _mapping(source.data)
        substrate = data.get("substrate")
        fitted, described = _mapping(data.get("fitted")), _mapping(data.get("chips"))
        source.problems += [
            source.problem(("fitted", name), f"there is no chip '{name}' above{validate.suggestion(name, described)}")
            for name in fitted
            if name not in described
        ]
        listed = {
            name: {"substrate": substrate, **_mapping(chip), **_mapping(fitted.get(name))}
            for name, chip in described.items()
        }
        found: dict[str, ChipSheet] | None = validate.typed(_CHIPS, listed, source, ("chips",))
        chips.update(found or {})
        problems += source.problems
    for file, source in _folder(folder, "models", disk).items():
        model = validate.typed(_MODEL, source.data, source)
        if model is not None:
            models[file.stem] = model
        problems += source.problems
    return Datasheets(chips, models), problems


def _folder(beside: Path, name: str, disk: _Disk) -> dict[Path, Source]:
    """The YAML files of a folder beside the configuration, else of the shipped one."""
    folder = _folder_of(beside, name)
    disk.read.extend((beside / name, folder))
    return {file: disk.parsed(file) for file in sorted(folder.glob("*.yaml"))}


def _folder_of(beside: Path, name: str) -> Path:
    return beside / name if (beside / name).is_dir() else shipped() / name


def _policies_in(beside: Path) -> str:
    """Where policies came from, for whoever misses one."""
    folder = _folder_of(beside, "policies")
    hides = "" if folder == shipped() / "policies" else ", which stands in for the shipped ones"
    return f"{folder}{hides}"


def _without_secrets(url: str) -> str:
    """Scheme, host and database of a Redis URL; credentials may stand before the host or in the query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{SECRET}@{host}" if "@" in parts.netloc else host
    return urlunsplit((parts.scheme, netloc, parts.path, SECRET if parts.query else "", ""))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _hash(config: Config, sheets: Datasheets) -> str:
    return _digest(redacted(config), sheets)


def _epoch(config: Config, sheets: Datasheets) -> str:
    dump = config.model_dump(mode="json", include={"models", "backends"})
    for backend in dump["backends"]:
        for name in (
            "pricing",
            "drained",
            "api_key",
            "aws",
            "timeouts",
            "max_connections",
            "profile",
            "monitor",
            "cold_start",
        ):
            backend.pop(name, None)
    return _digest(dump, sheets)


def _digest(dump: dict[str, Any], sheets: Datasheets) -> str:
    listed = [
        dump,
        {name: repr(chip) for name, chip in sorted(sheets.chips.items())},
        {name: repr(model) for name, model in sorted(sheets.models.items())},
    ]
    return hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()[:12]
