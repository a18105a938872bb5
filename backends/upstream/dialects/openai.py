"""OpenAI's wire as others speak it: vLLM, SGLang, TensorRT-LLM, llama.cpp, Groq, OpenAI itself. Pure.

Outwards, the client's own body goes on as it came: the model's name is the service's, a stream is asked for its usage,
the token limit is the one that was planned with; every other field, known here or not, is untouched. Back, chunks are
passed on as they came (`raw`), but for the model's name and for usage, which the gateway writes itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
from msgspec import Raw, Struct

from backends.base import ServiceTimes
from backends.errors import BackendError, StreamCut, Unavailable
from backends.types import Capability, ChoiceEnd, Endpoint, Event, FinishReason, GenerationRequest, TokenChunk, Usage
from backends.upstream.dialects.base import STREAM_TYPE, WHOLE_TYPE, Outgoing, Service, rooted
from backends.upstream.dialects.counts import CHARACTERS_PER_TOKEN, count, disjoint, service_times, shares
from backends.upstream.dialects.refusals import refusal, shown
from backends.upstream.sse import Decoder, data_of, with_data

PATHS: Mapping[Endpoint, str] = {
    "chat": "/chat/completions",
    "completion": "/completions",
    "embedding": "/embeddings",
}
DONE = b"[DONE]"
Refused = Callable[[int, Mapping[str, str], bytes, float], BackendError]

_REASONS: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "function_call",
}
_TEXT_FIELDS = ("role", "content")
_LIMITS = ("max_completion_tokens", "max_tokens")
MAX_HELD_BYTES = 64 * 1024

_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_plain = msgspec.json.Decoder(dict[str, Any]).decode
_anything = msgspec.json.Decoder().decode


class _Choice(Struct):
    """A choice of a chunk or of a whole answer; what else it holds is only passed on."""

    index: int = 0
    delta: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    text: str | None = None
    logprobs: Any = None
    finish_reason: str | None = None
    stop_reason: Any = None
    """vLLM's: the stop sequence, or the number of a token."""


class Body(Struct):
    """A chunk or a whole answer."""

    model: str | None = None
    choices: list[_Choice] | None = None
    data: list[Raw] | None = None
    usage: dict[str, Any] | None = None
    timings: dict[str, Any] | None = None
    x_groq: dict[str, Any] | None = None
    time_info: dict[str, Any] | None = None
    prompt_filter_results: list[Any] | None = None
    """Azure's, in a chunk of its own before the first."""

    error: Any = None
    code: Any = None
    object: str | None = None
    message: Any = None


_body = msgspec.json.Decoder(Body).decode


def request_body(request: GenerationRequest, upstream_model: str) -> bytes:
    """The client's body as the service gets it."""
    fields: dict[str, Any] = dict(_fields(request.body)) if request.body else _fields_of(request)
    fields["model"] = upstream_model
    # Turnout's own, and higher is sooner: vLLM counts the other way, others refuse the field.
    fields.pop("priority", None)
    if request.max_tokens is not None and request.endpoint != "embedding":
        given = [name for name in _LIMITS if bytes(fields.get(name, b"null")) != b"null"]
        for limit in given or ["max_tokens"]:
            fields[limit] = request.max_tokens
    if request.stream:
        asked = fields.get("stream_options")
        options = _anything(asked) if isinstance(asked, Raw) else None
        fields["stream_options"] = {**(options or {}), "include_usage": True}
    return _encode(fields)


class OpenAI:
    """The dialect that all others are compared with."""

    endpoints: ClassVar[frozenset[Endpoint]] = frozenset(PATHS)
    stream_type: ClassVar[str] = STREAM_TYPE
    lacks: ClassVar[frozenset[Capability]] = frozenset()
    lists_models: ClassVar[bool] = True
    versioned: ClassVar[bool] = False
    root: ClassVar[str] = "/v1"

    def __init__(self, service: Service) -> None:
        self.service = service
        self.url = rooted(service.url, self.root)

    def outgoing(self, request: GenerationRequest, upstream_model: str, wall_s: float) -> Outgoing:
        """The client's own body under the service's name of the model; nothing of its headers."""
        headers = {"content-type": WHOLE_TYPE, "accept": STREAM_TYPE if request.stream else WHOLE_TYPE}
        headers |= {"x-request-id": request.request_id, **self.authorization()}
        return Outgoing(
            "POST", self.path(request.endpoint, upstream_model), headers, self.body(request, upstream_model)
        )

    def path(self, endpoint: Endpoint, upstream_model: str) -> str:
        """The address of an endpoint."""
        return self.url + PATHS[endpoint]

    def body(self, request: GenerationRequest, upstream_model: str) -> bytes:
        """What is asked."""
        return request_body(request, upstream_model)

    def authorization(self) -> dict[str, str]:
        """The header that carries the key."""
        key = self.service.api_key
        return {} if key is None else {"authorization": f"Bearer {key}"}

    def ping(self, wall_s: float) -> Outgoing:
        """The list of models, which every such server has."""
        return Outgoing("GET", f"{self.url}/models", self.authorization())

    def alive(self, status: int) -> bool:
        return status == 200

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes, wall_s: float) -> BackendError:
        return refusal(self.service.name, status, headers, body, wall_s, self.service.api_key)

    def frames(self) -> Decoder:
        return Decoder(whole=True)

    def answers(self, request: GenerationRequest, upstream_model: str) -> Answers:
        return Answers(self.service.name, request, request.model, upstream_model, self.service.api_key, self.refusal)


DIALECT = OpenAI


class Answers:
    """The events of one answer, and what it took.

    `sent` while the service may be at work on it, `begun` once something of it has been read.
    """

    def __init__(
        self,
        name: str,
        request: GenerationRequest,
        model: str,
        upstream_model: str,
        api_key: str | None,
        refused: Refused | None = None,
    ) -> None:
        """`refused` is what an error in place of the first chunk means, if that is not OpenAI's way."""
        self.sent = False
        self.begun = False
        self.done = False
        self.times: ServiceTimes | None = None
        self._name = name
        self._request = request
        self._api_key = api_key
        self._refused = refused
        self._rename = None if model == upstream_model else _encode(model)
        self._open = set(range(request.choices))
        self._said = 0
        self._held = b""
        self._aside = b""
        self._usage: Usage | None = None

    def usage(self) -> Usage:
        """As the service said, or counted from chunks and characters.

        A prompt that was sent is billed though nothing came back: reading it is what a service does first.
        """
        if self._usage is not None:
            return self._usage
        if not self.sent:
            return Usage()
        prompt = sum(map(len, self._request.prompts)) // CHARACTERS_PER_TOKEN
        return Usage(max(1, prompt), 0, self._said, 0, estimated=True)

    def chunk(self, event: bytes) -> list[Event]:
        """The events of one chunk of a stream, as it came.

        Raises: StreamCut, or before anything was read Unavailable, for what is not one; what an error chunk means.
        """
        data = data_of(event)
        if data == DONE:
            self.done = True
            if self._open:
                raise self._broken("said it was done before every choice had ended")
            return []
        body = self.decode(data)
        told = self.told_usage(body)
        if told is not None:
            self._usage = disjoint(told) or self._usage
        self.times = self.told_times(body) or self.times
        events: list[Event] = []
        for choice in body.choices or ():
            events += self._events_of(choice, choice.delta or {}, 1)
        if body.choices:
            aside, self._aside = self._aside, b""
            self._attach(events, self._frame(event, data, body) + aside)
        elif body.prompt_filter_results and len(self._aside) + len(data) <= MAX_HELD_BYTES:
            # It has no id, and as the first chunk it would give that to those that are written here: so it goes second.
            self._aside += self._frame(event, data, body)
        return events

    def whole(self, data: bytes) -> list[Event]:
        """The events of an answer in one piece: the body goes with the first.

        Raises: as `chunk`.
        """
        body = self.decode(data)
        self.done = True
        self.times = self.told_times(body)
        if self._request.endpoint == "embedding":
            return self._vectors(data, body)
        choices = body.choices or []
        texts = [choice.text or (choice.message or {}).get("content") or "" for choice in choices]
        estimated = [max(1, len(text) // CHARACTERS_PER_TOKEN) for text in map(str, texts)]
        if body.usage is not None:
            self._usage = disjoint(body.usage) or self._usage
        tokens = shares(self._usage.completion_tokens, len(texts)) if self._usage is not None else estimated
        events: list[Event] = []
        for choice, said in zip(choices, tokens, strict=True):
            choice.finish_reason = choice.finish_reason or "stop"
            events += self._events_of(choice, choice.message or {}, said)
        if self._open:
            raise self._broken("left out a choice")
        self._attach(events, data)
        return events

    def _vectors(self, data: bytes, body: Body) -> list[Event]:
        """The vectors themselves are only passed on."""
        if len(body.data or ()) != self._request.choices:
            raise self._broken("left out a vector")
        prompt = count((body.usage or {}).get("prompt_tokens"))
        self._usage = None if prompt is None else Usage(prompt)
        events: list[Event] = []
        for index in sorted(self._open):
            events += [TokenChunk(index, "", 1, b"", False), ChoiceEnd(index, "stop", b"")]
        self._open.clear()
        self._attach(events, data)
        return events

    @staticmethod
    def told_usage(body: Body) -> dict[str, Any] | None:
        """Where a chunk says what the answer took, if it does."""
        return body.usage

    @staticmethod
    def told_times(body: Body) -> ServiceTimes | None:
        """Where a chunk says how long the answer took; llama.cpp's are the only ones of a server of one's own."""
        if body.timings is None:
            return None
        return service_times(body.timings, {"prompt_s": "prompt_ms", "completion_s": "predicted_ms"}, 1e3)

    def end(self) -> None:
        """The stream is over.

        Raises: StreamCut, or Unavailable before anything was read, if it should not be.
        """
        if self._open:
            raise self._broken("ended its answer early")

    def decode(self, data: bytes) -> Body:
        """Raises: what an error in place of a chunk means; what is no chunk is `_broken`."""
        try:
            body = _body(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._broken("sent what is not a chunk of an answer") from None
        if (error := self.told_error(body)) is not None:
            raise self._said_error(error)
        return body

    def told_error(self, body: Body) -> Any:
        """What a service says went wrong, where it says so in place of a chunk; None if nothing did."""
        if body.error is not None or body.choices is not None or body.data is not None:
            return body.error
        bare = body.object == "error" or body.code is not None
        return (body.message or "an error without a word") if bare else None

    def _said_error(self, error: Any) -> BackendError:
        """An error in place of a chunk: before anything was read it counts as the status it names."""
        message = error.get("message") if isinstance(error, dict) else error
        if self.begun:
            return StreamCut(f"{self._name}: {shown(str(message), self._api_key)}")
        self.sent = False  # a refusal, only said late
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        body = _encode({"error": error})
        if self._refused is not None:
            return self._refused(status, {}, body, 0.0)
        return refusal(self._name, status, {}, body, 0.0, self._api_key)

    def _events_of(self, choice: _Choice, said: Mapping[str, Any], tokens: int) -> list[Event]:
        index = choice.index
        silent = choice.finish_reason is None and not choice.text and not any(said.values())
        if silent and 0 <= index < self._request.choices:
            return []  # what a filter found out, which may come after the end
        if index not in self._open:
            raise self._broken(f"went on with choice {index}, which had ended or was not asked for")
        content = said.get("content") if choice.text is None else choice.text
        text = content if isinstance(content, str) else ""
        plain = not choice.logprobs and not any(value for key, value in said.items() if key not in _TEXT_FIELDS)
        events: list[Event] = []
        if text or not plain:
            self._said += tokens
            self.begun = True
            events.append(TokenChunk(index, text, max(1, tokens), b"", plain))
        if choice.finish_reason is not None:
            self._open.discard(index)
            self.begun = True
            stop = choice.stop_reason if isinstance(choice.stop_reason, str) else None
            events.append(ChoiceEnd(index, _REASONS.get(choice.finish_reason, "stop"), b"", stop))
        return events

    def _attach(self, events: list[Event], raw: bytes) -> None:
        """The first event takes what was sent; a chunk that is none (a role, say) goes with the next one that is."""
        if not events:
            # A service may keep a stream alive with empty chunks for ever: past this they are dropped.
            if len(self._held) + len(raw) <= MAX_HELD_BYTES:
                self._held += raw
            return
        raw, self._held = self._held + raw, b""
        first = events[0]
        if type(first) is TokenChunk:
            events[0] = TokenChunk(first.index, first.text, first.tokens, raw, first.plain)
        elif type(first) is ChoiceEnd:
            events[0] = ChoiceEnd(first.index, first.reason, raw, first.stop)

    def _frame(self, event: bytes, data: bytes, body: Body) -> bytes:
        """A chunk as the client gets it: as it came, but for the public model's name and without usage."""
        if body.usage is None and (self._rename is None or body.model is None):
            return event
        return with_data(event, self._rewritten(data, body).replace(b"\n", b" "))

    def _rewritten(self, data: bytes, body: Body) -> bytes:
        if body.usage is None and self._rename is not None and body.model is not None:
            for colon in (b'"model":', b'"model": '):
                named = colon + _encode(body.model)
                if named in data:
                    return data.replace(named, colon + self._rename, 1)
        fields: dict[str, Any] = dict(_fields(data))
        if "usage" in fields:
            fields["usage"] = None
        if self._rename is not None and "model" in fields:
            fields["model"] = Raw(self._rename)
        return _encode(fields)

    def _broken(self, what: str) -> BackendError:
        text = f"{self._name} {what}"
        return StreamCut(text) if self.begun else Unavailable(text)


def chat_fields(request: GenerationRequest) -> dict[str, Any]:
    """The body of a request as plain data, for dialects that say it in other words."""
    return dict(_plain(request.body)) if request.body else _fields_of(request)


def _fields_of(request: GenerationRequest) -> dict[str, Any]:
    """A body for a request that came without one (from a trace, say)."""
    prompts = list(request.prompts)
    said: dict[str, Any] = (
        {"messages": [{"role": "user", "content": prompts[0]}]}
        if request.endpoint == "chat"
        else {"prompt": prompts[0] if len(prompts) == 1 else prompts}
    )
    optional = {
        "n": request.n if request.n > 1 else None,
        "stop": list(request.stop) or None,
        "min_tokens": request.min_tokens or None,
        "ignore_eos": request.ignore_eos or None,
        "stream": request.stream or None,
    }
    return {**said, "seed": request.seed, **{name: value for name, value in optional.items() if value is not None}}
