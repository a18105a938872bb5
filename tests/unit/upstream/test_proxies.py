"""Which proxy leads to a service."""

from __future__ import annotations

import pytest

from backends.upstream.proxies import proxy_of

P, Q = "http://proxy:3128", "http://other:3128"
URL = "https://api.example.com/v1"


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        (URL, {}, None),
        (URL, {"HTTPS_PROXY": P}, P),
        (URL, {"HTTPS_PROXY": P, "https_proxy": Q}, Q),
        (URL, {"HTTP_PROXY": P}, None),
        (URL, {"ALL_PROXY": P}, P),
        (URL, {"HTTPS_PROXY": "", "ALL_PROXY": P}, P),
        ("http://x.com", {"HTTP_PROXY": P}, P),
        ("http://x.com", {"HTTP_PROXY": P, "REQUEST_METHOD": "GET"}, None),
        ("http://x.com", {"http_proxy": P, "REQUEST_METHOD": "GET"}, P),
        ("http://localhost:8000", {"ALL_PROXY": P}, None),
        ("http://127.0.0.9:8000", {"ALL_PROXY": P}, None),
        ("http://[::1]:8000", {"ALL_PROXY": P}, None),
    ],
)
def test_the_usual_variables(url: str, environment: dict[str, str], proxy: str | None) -> None:
    assert proxy_of(url, environment) == proxy


@pytest.mark.parametrize(
    ("url", "listed", "straight"),
    [
        (URL, "*", True),
        (URL, "api.example.com", True),
        (URL, "other, .example.com", True),
        (URL, "*.example.com", True),
        (URL, "EXAMPLE.COM", True),
        (URL, "ample.com", False),
        (URL, "api.example.com:443", True),
        (URL, "api.example.com:8443", False),
        ("https://10.1.2.3:8443", "10.0.0.0/8", True),
        ("https://10.1.2.3:8443", "10.1.2.3:8443", True),
        ("https://10.1.2.3", "10.1.2.4", False),
        ("https://10.1.2.3", "example.com", False),
        ("https://[fd00::1]/v1", "fd00::/8", True),
        ("https://[fd00::1]:8443/v1", "[fd00::1]:8443", True),
        (URL, "", False),
        (URL, ",", False),
    ],
)
def test_what_is_reached_straight(url: str, listed: str, straight: bool) -> None:
    assert proxy_of(url, {"ALL_PROXY": P, "NO_PROXY": listed}) == (None if straight else P)
