"""From plain data to typed configuration: every problem at once, each with its position and a suggestion. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Sequence
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from app.config import caching, models
from app.config.keys import Keys, keys_at
from app.config.models import Config
from app.config.source import SECRETS, Source, dotted
from backends import registry
from backends.upstream.dialects import named

T = TypeVar("T")

_MISSING = ("missing", "missing_argument")
KEYS_LISTED = 16
EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104 - recognised, not listened on


def typed(
    adapter: TypeAdapter[T],
    data: Any,
    source: Source,
    prefix: Sequence[str | int] = (),
    keys: Callable[[], Sequence[str]] | None = None,
) -> T | None:
    """The value, or None with the problems added to the source.

    `keys()` are what an unknown key may have meant, where the adapter's schema does not tell.
    """
    try:
        return adapter.validate_python(data)
    except ValidationError as error:
        schema = adapter.json_schema() if keys is None else {}
        listed = [(problem, _real_path(problem, data)) for problem in error.errors(include_url=False)]
        missing = {path for problem, path in listed if problem["type"] in _MISSING}
        for problem, path in listed:
            if problem["type"] == "too_short" and problem["input"]:
                continue  # it only echoes that an item is wrong, which is reported where it stands
            known = keys_at(schema, path[:-1], data) if keys is None else Keys((), tuple(keys()))
            source.problems.append(source.problem((*prefix, *path), _message(problem, path, missing, known)))
        return None


def cross_check(
    config: Config,
    source: Source,
    scorers: Sequence[str],
    pickers: Sequence[str],
    by_score: Collection[str],
    policies_from: str,
) -> None:
    """References between parts; problems are added to the source.

    `by_score` are the pickers that need scorers, `policies_from` says where policies were read from.
    """
    check = _References(source)
    names: set[str] = set()
    served = {deployment.model for backend in config.backends for deployment in backend.deployments}
    for index, backend in enumerate(config.backends):
        at: tuple[str | int, ...] = ("backends", index)
        if backend.name in names:
            check.add((*at, "name"), f"the backend '{backend.name}' is given twice")
        names.add(backend.name)
        if isinstance(backend, models.LiveBackendConfig):
            _check_live(backend, at, check)
        for place, deployment in enumerate(backend.deployments):
            check.known((*at, "deployments", place, "model"), "model", deployment.model, config.models)
    taken = set(config.models)
    for name, model in config.models.items():
        if name not in served:
            check.add(("models", name), "no backend serves this model")
        check.known(("models", name, "slo"), "SLO class", model.slo, config.slo)
        if model.policy is not None:
            check.known(("models", name, "policy"), "policy", model.policy, config.policies, policies_from)
        if model.reference_backend is not None:
            serving = [each.name for each in config.backends if any(d.model == name for d in each.deployments)]
            at_reference = ("models", name, "reference_backend")
            check.known(at_reference, "backend of this model", model.reference_backend, serving)
        if model.max_tokens_cap is not None and model.default_max_tokens > model.max_tokens_cap:
            check.add(("models", name, "default_max_tokens"), "is more than max_tokens_cap")
        for place, alias in enumerate(model.aliases):
            if alias in taken:
                check.add(("models", name, "aliases", place), f"the name '{alias}' is taken")
            taken.add(alias)
    _check_aliases(config, taken, check)
    check.known(("routing", "default_policy"), "policy", config.routing.default_policy, config.policies, policies_from)
    for name, policy in config.policies.items():
        check.known(("policies", name, "picker", "use"), "picker", policy.picker.use, pickers)
        for place, scorer in enumerate(policy.scorers):
            check.known(("policies", name, "scorers", place, "use"), "scorer", scorer.use, scorers)
        if policy.picker.use in by_score and not policy.scorers:
            at_picker = ("policies", name, "picker")
            check.add(at_picker, f"'{policy.picker.use}' chooses by score, and this policy has no scorers")
        if policy.scorers and policy.picker.use in set(pickers) - set(by_score):
            check.add(("policies", name, "scorers"), f"the picker '{policy.picker.use}' does not look at scores")
    _check_cache(config.cache, check)
    _check_server(config, check)


def _check_cache(cache: caching.Cache, check: _References) -> None:
    if isinstance(cache, caching.RedisCache) and cache.encryption_keys and not find_spec("cryptography"):
        check.add(("cache", "encryption_keys"), "needs `cryptography`: pip install 'turnout[encryption]'")
    if isinstance(cache, caching.MemoryCache) and cache.max_bytes < cache.max_value_bytes:
        check.add(("cache", "max_value_bytes"), "is more than the whole cache may hold (max_bytes)")


def warnings(config: Config) -> tuple[str, ...]:
    """What is allowed but should be known."""
    found = [
        f"backend '{backend.name}': its price is assumed ({backend.pricing.source})"
        for backend in config.backends
        if backend.pricing.confidence in ("assumed", "estimate", "not public") and backend.pricing.type != "unpriced"
    ]
    found += [
        f"backend '{backend.name}': a live service does not tell its engine time, so chip_hours leave its requests "
        "unpriced (pricing of type tokens bills them by usage)"
        for backend in config.backends
        if isinstance(backend, models.LiveBackendConfig) and isinstance(backend.pricing, models.ChipHourPricing)
    ]
    found += [
        f"backend '{backend.name}': a service that is pinged every {backend.monitor.interval_s:g} s may never become "
        "cold (leave out `monitor` or `cold_start`)"
        for backend in config.backends
        if isinstance(backend, models.LiveBackendConfig)
        and backend.monitor is not None
        and backend.cold_start is not None
    ]
    found += [
        f"backend '{backend.name}': each gateway has a model process of its own, so those that share must not call it "
        "the same"
        for backend in config.backends
        if backend.kind == "local" and isinstance(config.sharing, models.RedisSharing)
    ]
    for name in config.models:
        backends = [b for b in config.backends if any(d.model == name for d in b.deployments)]
        if backends and all(backend.drained for backend in backends):
            found.append(f"model '{name}': every backend that serves it is drained")
    return tuple(found)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


AMAZONS = ("bedrock", "sagemaker")
_SECRETS = frozenset({*SECRETS, "url", "metrics_url"})


class _References:
    def __init__(self, source: Source) -> None:
        self._source = source

    def add(self, path: Sequence[str | int], message: str) -> None:
        self._source.problems.append(self._source.problem(path, message))

    def known(self, path: Sequence[str | int], what: str, name: str, known: Iterable[str], source: str = "") -> None:
        """`source` is where the known ones come from, if that is not the file itself."""
        if name not in known:
            listed = (", ".join(sorted(known)) or "none") + (f"; those in files are from {source}" if source else "")
            self.add(path, f"there is no {what} '{name}'{suggestion(name, known)} (there are: {listed})")


def _check_aliases(config: Config, taken: Collection[str], check: _References) -> None:
    """`taken` are the names of models and of their own aliases."""
    for name, target in config.aliases.items():
        at = ("aliases", name)
        if name in taken:
            check.add(at, f"the name '{name}' is taken")
        if isinstance(target, str):
            check.known(at, "model", target, config.models)
            continue
        for model in target:
            check.known((*at, model), "model", model, config.models)
        if not sum(target.values()):
            check.add(at, "at least one weight must be more than 0")


def _check_live(backend: models.LiveBackendConfig, at: Sequence[str | int], check: _References) -> None:
    if (backend.chip is None) != (backend.chips is None):
        check.add(at, "`chip` and `chips` go together")
    elif backend.chip is None:
        if backend.profile is None and backend.kind != "local":
            check.add(at, "what latency to expect must be known: declare `profile`, or `chip` and `chips`")
        if isinstance(backend.pricing, models.ChipHourPricing):
            check.add((*at, "pricing"), "a price by the chip-hour needs `chip` and `chips`")
    _check_dialect(backend, at, check)
    if backend.kind == "local":
        for name in ("url", "api_key", "chip", "monitor"):
            if getattr(backend, name) is not None:
                check.add((*at, name), "a `kind: local` backend is a process of the gateway's own and has none")
    else:
        if backend.url is None:
            check.add((*at, "url"), "is required")
        if backend.server is not None:
            check.add((*at, "server"), f"is for `kind: local`, not for '{backend.kind}'")
    served = [deployment.model for deployment in backend.deployments]
    for place, model in enumerate(served):
        if model in served[:place]:
            check.add((*at, "deployments", place, "model"), f"the model '{model}' is given twice")


def _check_dialect(backend: models.LiveBackendConfig, at: Sequence[str | int], check: _References) -> None:
    known = registry.dialects(backend.kind)
    dialect = backend.dialect or known[0]
    if dialect not in known:
        listed = f"{suggestion(dialect, known)} (there are: {', '.join(known)})"
        check.add((*at, "dialect"), f"kind '{backend.kind}' has no dialect '{dialect}'{listed}")
    if backend.api_version is not None and dialect in known and not named(dialect).versioned:
        check.add((*at, "api_version"), f"the dialect '{dialect}' has no versions")
    if backend.aws is not None:
        if dialect not in AMAZONS:
            check.add((*at, "aws"), f"is for the dialects {' and '.join(AMAZONS)}, not for '{dialect}'")
        elif (backend.aws.access_key_id is None) != (backend.aws.secret_access_key is None):
            check.add((*at, "aws"), "`access_key_id` and `secret_access_key` go together")


def _check_server(config: Config, check: _References) -> None:
    server = config.server
    if not _loopback(server.admin_host) and server.admin_token is None:
        check.add(
            ("server", "admin_host"), "an admin port that is not on loopback needs server.admin_token (16 characters)"
        )
    same_host = server.host == server.admin_host or bool({server.host, server.admin_host} & set(EVERY_ADDRESS))
    if server.port == server.admin_port != 0 and same_host:
        check.add(("server", "admin_port"), "the API and the admin port cannot be the same")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False  # a name: only `localhost` is known to stay on this machine


def _real_path(problem: Any, data: Any) -> tuple[str | int, ...]:
    """pydantic's location without the union tags it inserts: only parts that exist in the data, and a missing key."""
    path: list[str | int] = []
    location = problem["loc"]
    for place, part in enumerate(location):
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            path.append(part)
            data = data[part]
        elif place == len(location) - 1 and problem["type"] in _MISSING:
            path.append(part)
    return tuple(path)


def _message(
    problem: Any,
    path: Sequence[str | int],
    missing: Iterable[Sequence[str | int]],
    known: Keys,
) -> str:
    kind, text = problem["type"], str(problem["msg"])
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        # A key that is missing beside it is the likeliest to have been meant.
        wanted = [str(other[-1]) for other in missing if other[:-1] == path[:-1]]
        return _unknown_key(path, wanted, known)
    if kind in _MISSING:
        return "is required"
    if kind == "union_tag_invalid":
        tags = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        tag = problem["ctx"]["tag"]
        near = suggestion(tag, tags)
        what = problem["ctx"]["discriminator"].strip("'")
        return f"there is no {what} '{tag}'{near} (there are: {', '.join(tags)})"
    if kind == "too_short":
        return "needs at least one entry"
    if kind == "union_tag_not_found":
        return f"needs a {problem['ctx']['discriminator']}"
    value = problem.get("input")
    shown = f" (got {value!r:.60})" if isinstance(value, str | int | float | bool) and not _secret(path) else ""
    return text[:1].lower() + text[1:] + shown


def _unknown_key(path: Sequence[str | int], wanted: Sequence[str], known: Keys) -> str:
    name = str(path[-1])
    near = suggestion(name, wanted)
    if name in (*known.own, *known.others) and not near:
        return "not a key of this entry: another mode, type or kind has it"
    if not near and name in known.below:
        return f"unknown key; did you mean '{dotted((*path[:-1], known.below[name], name))}'?"
    near = near or suggestion(name, known.own or known.others)
    has = f" (there are: {', '.join(known.own)})" if 0 < len(known.own) <= KEYS_LISTED and not near else ""
    return f"unknown key{near}{has}"


def _secret(path: Sequence[str | int]) -> bool:
    return any(str(part) in _SECRETS for part in path)
