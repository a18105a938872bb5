"""Options that commands share: an address is one, and a header can be sent."""

from __future__ import annotations

import click
import pytest

from app.cli.loading import gateway_url, header_text

CONTEXT = click.Context(click.Command("c"))
OPTION = click.Option(["--url"])


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://h", "http://[::1]:1/base"])
def test_addresses_lose_their_last_slash(url: str) -> None:
    assert gateway_url(CONTEXT, OPTION, url) == gateway_url(CONTEXT, OPTION, url + "/") == url


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "http://", "http://[", "http://h:99999", "http://h:x", "ftp://h"]
)
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(click.BadParameter):
        gateway_url(CONTEXT, OPTION, url)


@pytest.mark.parametrize("text", ["é", "a\nb", "a\x00"])
def test_what_no_header_can_carry_is_a_usage_error(text: str) -> None:
    assert header_text(CONTEXT, OPTION, "cheapest-slo") == "cheapest-slo"
    with pytest.raises(click.BadParameter):
        header_text(CONTEXT, OPTION, text)
