"""What Amazon's services share: requests are signed (Signature Version 4), streams come in frames of their own.

Both with `botocore`, an optional extra, imported when such a backend is built. The time in a signature is botocore's
own reading of the clock. Credentials are those of the configuration, else found as every AWS tool does (environment,
shared files, container and instance roles); those of a role are renewed before they expire, by a call for which the
event loop waits.
"""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from backends.errors import BackendConfigError, Unavailable
from backends.upstream.dialects.base import Aws, Outgoing, Service
from backends.upstream.sse import EventTooLong

STREAM_TYPE = "application/vnd.amazon.eventstream"
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
MAX_FRAME_BYTES = 4 * 1024 * 1024


class Signer:
    """Signs requests to one service of Amazon's; with an `api_key` they carry it and are not signed."""

    def __init__(self, service: Service, product: str) -> None:
        """`product` is Amazon's name of it.

        Raises: BackendConfigError without botocore, a region or credentials.
        """
        self._service = service
        self._auth: Any = None
        if service.api_key is None:
            aws = service.aws or Aws()
            region = aws.region or _region_of(service.url)
            if region is None:
                raise BackendConfigError(f"{service.name}: its url names no region: say aws.region")
            self._auth = _botocore("auth").SigV4Auth(_credentials(service.name, aws), product, region)

    def signed(self, asked: Outgoing) -> Outgoing:
        """The same request with what proves who asks.

        Raises: Unavailable where credentials that must be renewed cannot be.
        """
        if self._auth is None:
            return asked._replace(headers={**asked.headers, "authorization": f"Bearer {self._service.api_key}"})
        request = _botocore("awsrequest").AWSRequest(asked.method, asked.url, asked.headers, asked.body)
        try:
            self._auth.add_auth(request)
        except _botocore("exceptions").BotoCoreError as error:
            raise Unavailable(f"{self._service.name}: no credentials: {error}") from None
        return asked._replace(headers={name.lower(): value for name, value in request.headers.items()})


class Frames:
    """Cuts an event stream into `{"<event type>": payload}`, or `{"exception": type, "message": ...}`, as JSON."""

    def __init__(self) -> None:
        self._buffer = _botocore("eventstream").EventStreamBuffer()
        self._parser_error = _botocore("eventstream").ParserError
        self._waiting = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises: EventTooLong for what is no event stream, too."""
        return [_frame(event.headers, event.payload) for event in self.events(piece)]

    def events(self, piece: bytes) -> list[Any]:
        """The messages that `piece` completes, with `headers` and `payload`."""
        self._buffer.add_data(piece)
        self._waiting += len(piece)
        try:
            listed = list(self._buffer)
        except (self._parser_error, ValueError, KeyError) as error:
            raise EventTooLong(f"no event stream ({type(error).__name__})") from None
        if listed:
            self._waiting = 0
        if self._waiting > MAX_FRAME_BYTES:
            raise EventTooLong(f"an event of more than {MAX_FRAME_BYTES:,} bytes")
        return listed


def _frame(headers: dict[str, Any], payload: bytes) -> bytes:
    kind = headers.get(":event-type")
    if headers.get(":message-type") == "event" and kind:
        return b'{"%b":%b}' % (str(kind).encode(), payload or b"{}")
    name = headers.get(":exception-type") or headers.get(":error-code") or "unknown"
    said = payload.decode("utf-8", "replace") or headers.get(":error-message")
    return json.dumps({"exception": name, "message": said}).encode()


def _credentials(name: str, aws: Aws) -> Any:
    if aws.access_key_id and aws.secret_access_key:
        found = _botocore("credentials").Credentials(aws.access_key_id, aws.secret_access_key, aws.session_token)
    else:
        found = _botocore("session").get_session().get_credentials()
    if found is None:
        raise BackendConfigError(f"{name}: no AWS credentials: say aws.access_key_id and so on, or set them up outside")
    return found


def _region_of(url: str) -> str | None:
    """As in https://bedrock-runtime.us-east-1.amazonaws.com, a private endpoint's and China's included."""
    host = urlsplit(url).hostname or ""
    named = [part for part in host.split(".") if _REGION.fullmatch(part)] if ".amazonaws.com" in host else []
    return named[0] if named else None


def _botocore(name: str) -> Any:
    try:
        import botocore  # type: ignore[import-untyped]  # said out loud, so that the rule of its home can be checked
    except ModuleNotFoundError:
        raise BackendConfigError("this dialect needs botocore: pip install 'turnout[aws]'") from None
    return import_module(f"{botocore.__name__}.{name}")
