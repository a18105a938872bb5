"""`turnout check --live` against services that are there, that are not, and that are something else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.upstreams import MODEL, emulating, live_config


async def check(folder: Path, *arguments: str) -> Result:
    """In a thread of its own: the command runs its own event loop, the service is in this one."""
    path = str(folder / "turnout.yaml")
    return await asyncio.to_thread(CliRunner().invoke, main, ["check", "--live", "-c", path, *arguments])


async def found(folder: Path) -> tuple[int, dict[str, Any]]:
    result = await check(folder, "--json")
    (said,) = json.loads(result.stdout)["live"]
    return result.exit_code, said


async def test_a_service_that_is_there_and_has_the_model(tmp_path: Path) -> None:
    async with emulating() as upstream:
        live_config(tmp_path, {"up": upstream.url}, monitor="{metrics_url: URL/metrics}")
        code, said = await found(tmp_path)
        shown = await check(tmp_path)
    assert (code, said["ok"], said["models"], said["missing"]) == (0, True, [MODEL], [])
    assert (said["dialect"], said["metrics"]) == ("openai", "read, 0 running and 0 waiting")
    assert shown.exit_code == 0
    assert "answers; models" in shown.stdout


async def test_a_model_that_is_not_listed_is_a_warning(tmp_path: Path) -> None:
    async with emulating() as upstream:
        live_config(tmp_path, {"up": upstream.url}, upstream_model="other-model")
        code, said = await found(tmp_path)
        shown = await check(tmp_path)
    assert (code, said["ok"], said["missing"]) == (0, True, ["other-model"])
    assert "other-model" in shown.stdout


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "refuses the credentials"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\noops", "answered 500"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answered 404"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>", "that is no API"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]", "no list of models"),
        (b"SSH-2.0-OpenSSH\r\n", "did not answer"),
        (b"", "did not answer"),
    ],
)
async def test_what_else_there_may_be_is_said(tmp_path: Path, answer: bytes, says: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        live_config(tmp_path, {"up": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"})
        code, said = await found(tmp_path)
    assert (code, said["ok"]) == (1, False)
    assert says in said["said"]


@pytest.mark.parametrize(
    ("url", "says"), [("http://127.0.0.1:9", "no connection to up"), ("http://nobody.invalid", "no connection to up")]
)
async def test_nobody_there(tmp_path: Path, url: str, says: str) -> None:
    live_config(tmp_path, {"up": url})
    code, said = await found(tmp_path)
    assert (code, said["ok"]) == (1, False)
    assert says in said["said"]


def test_a_configuration_without_services(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["check", "--live"])
    assert result.exit_code == 0
    assert "no live backend" in result.stdout
