"""Which proxy leads to a service, by the variables that everybody reads. Pure.

HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in either case, the small one first. NO_PROXY lists hosts that are reached
straight: names with everything below them, addresses and networks (10.0.0.0/8), each with a port if need be, or `*`.
This machine's own addresses are always reached straight: what listens here no proxy could know better.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

_PORTS = {"http": 80, "https": 443}


def proxy_of(url: str, environment: Mapping[str, str]) -> str | None:
    """The proxy's URL; None = straight."""
    parts = urlsplit(url)
    if _is_own(parts.hostname or "") or _straight(parts, _variable("no_proxy", environment)):
        return None
    return _variable(f"{parts.scheme}_proxy", environment) or _variable("all_proxy", environment) or None


def _variable(name: str, environment: Mapping[str, str]) -> str:
    # A web server hands a client's `Proxy` header to its children as HTTP_PROXY: there, capitals are not to be trusted.
    loud = "" if name == "http_proxy" and "REQUEST_METHOD" in environment else environment.get(name.upper(), "")
    return environment.get(name) or loud


def _straight(service: SplitResult, listed: str) -> bool:
    return any(_covers(entry.strip().lower(), service) for entry in listed.split(",") if entry.strip())


def _covers(entry: str, service: SplitResult) -> bool:
    if entry == "*":
        return True
    host, address = service.hostname or "", _address(service.hostname or "")
    name, colon, port = entry.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.startswith("[")):
        if int(port) != (service.port or _PORTS.get(service.scheme)):
            return False
        entry = name
    entry = entry.strip("[]")
    if address is not None:
        try:
            return address in ip_network(entry, strict=False)
        except ValueError:
            return False
    entry = entry.removeprefix("*").lstrip(".")
    return host == entry or host.endswith(f".{entry}")


def _is_own(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
