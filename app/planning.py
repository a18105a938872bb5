"""From a client's request to what is decided on and what a backend is asked: names, limits, promises, sizes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from app.aliases import Alias, sticky_key
from app.call import Call, Options
from app.config.deciding import SloConfig
from app.config.models import ModelConfig
from app.errors import NotFound
from app.routing.prefixes import block_hashes
from app.routing.state import Lengths
from app.routing.types import COMPLETIONS, SEVERAL, RouteRequest, Slo
from backends.types import NO_HEADERS, Capability, GenerationRequest

COMPLETION_DEFAULT_MAX_TOKENS = 16
"""What OpenAI's /v1/completions generates when `max_tokens` is absent."""

FREE_PROMPT_TOKENS = 2000
"""A TTFT promise grows only with prompt tokens beyond these."""


class Plan(NamedTuple):
    """What will be decided on, and what the chosen backend will be asked."""

    model: str
    slo_class: str
    route: RouteRequest
    generation: GenerationRequest


@dataclass(frozen=True, slots=True)
class Planner:
    """The public models, by name and alias, with their promises."""

    models: Mapping[str, ModelConfig]
    slo_classes: Mapping[str, SloConfig]
    default_policy: str
    aliases: Mapping[str, Alias]
    counters: Mapping[str, Callable[[str], int]] = field(default_factory=dict)
    """Of models with a vocabulary."""

    def names(self) -> list[str]:
        """Everything a client may ask for: models first, then aliases."""
        return [*self.models, *self.aliases]

    def shares(self, name: str) -> tuple[tuple[str, float], ...]:
        """The models behind a name, and the share of requests for each.

        Raises: NotFound (`model_not_found`).
        """
        if name in self.models:
            return ((name, 1.0),)
        alias = self.aliases.get(name)
        if alias is None:
            raise NotFound(
                f"the model '{name[:256]}' does not exist (there are: {', '.join(sorted(self.models))})",
                param="model",
                code="model_not_found",
            )
        return alias.shares

    def resolve(self, call: Call) -> str:
        """The model that a call is for: the same one each time it is asked.

        Raises: NotFound (`model_not_found`).
        """
        name = call.model
        if name in self.models:
            return name
        alias = self.aliases.get(name)
        return self.shares(name)[0][0] if alias is None else alias.model(sticky_key(call))

    def plan(self, call: Call, lengths: Mapping[str, Lengths]) -> Plan:
        """Raises: NotFound."""
        model = self.resolve(call)
        config = self.models[model]
        length = lengths.get(model) or Lengths()
        max_tokens = self._max_tokens(call, config)
        counter = self.counters.get(model)
        sizes = (
            [counter(prompt) for prompt in call.prompts]
            if counter is not None
            else [max(1, round(len(prompt) / length.characters_per_token)) for prompt in call.prompts]
        )
        prompt_tokens = sum(sizes)
        expected, long = (
            max_tokens if call.ignore_eos else min(max_tokens, max(call.min_tokens, tokens))
            for tokens in (length.completion_tokens, length.completion_tokens_q75)
        )
        options = call.options
        route = RouteRequest(
            model=model,
            policy=options.policy or config.policy or self.default_policy,
            prompt_tokens=prompt_tokens,
            longest_prompt_tokens=max(sizes),
            completion_tokens=max(1, round(expected)) * call.choices,
            max_completion_tokens=max_tokens * call.choices,
            slo=promise(self.slo_classes[config.slo], options, prompt_tokens),
            choices=call.choices,
            capabilities=needs(call),
            max_cost_nusd=None if options.max_cost_usd is None else options.max_cost_usd * 1e9,
            completion_tokens_q75=max(1, round(long)) * call.choices,
            slo_class=config.slo,
            priority=call.priority,
            arrived_ns=call.started_ns,
            session=options.session,
            blocks=block_hashes(f"{call.tenant}\0{model}\0", call.prompts[0]) if len(call.prompts) == 1 else (),
            alias=None if call.model == model else call.model,
        )
        return Plan(model, config.slo, route, asked_of(call, model, max_tokens))

    @staticmethod
    def _max_tokens(call: Call, config: ModelConfig) -> int:
        wanted = call.max_tokens
        if wanted is None:
            wanted = COMPLETION_DEFAULT_MAX_TOKENS if call.endpoint == "completion" else config.default_max_tokens
        return wanted if config.max_tokens_cap is None else min(wanted, config.max_tokens_cap)


def needs(call: Call) -> frozenset[Capability]:
    """What a backend must be able to do: what the body asks for, several choices, an address for text completions."""
    wanted = call.capabilities
    if call.n > 1:
        wanted |= SEVERAL
    return wanted | COMPLETIONS if call.endpoint == "completion" else wanted


def asked_of(call: Call, model: str, max_tokens: int | None) -> GenerationRequest:
    """What a backend is asked, by the model's own name and with the limit that was settled on."""
    return GenerationRequest(
        request_id=call.request_id,
        endpoint=call.endpoint,
        model=model,
        prompts=call.prompts,
        max_tokens=max_tokens,
        n=call.n,
        stop=call.stop,
        seed=call.seed or 0,
        min_tokens=call.min_tokens,
        ignore_eos=call.ignore_eos,
        stream=call.stream,
        body=call.body,
        priority=call.priority,
        needs=call.capabilities,
        headers=call.options.headers or NO_HEADERS,
    )


def promise(slo_class: SloConfig, options: Options, prompt_tokens: int) -> Slo:
    """The SLO of one request: its class's, with a longer TTFT for long prompts; headers override each part."""
    ttft_s = None
    if slo_class.ttft_ms is not None:
        beyond = max(0, prompt_tokens - FREE_PROMPT_TOKENS) / 1000
        ttft_s = (slo_class.ttft_ms + slo_class.ttft_ms_per_1k_prompt_tokens_beyond_2k * beyond) / 1000
    tpot_s = None if slo_class.tpot_ms is None else slo_class.tpot_ms / 1000
    e2e_s = None if slo_class.e2e_ms is None else slo_class.e2e_ms / 1000
    return Slo(
        ttft_s if options.slo_ttft_s is None else options.slo_ttft_s,
        tpot_s if options.slo_tpot_s is None else options.slo_tpot_s,
        e2e_s if options.slo_e2e_s is None else options.slo_e2e_s,
    )
