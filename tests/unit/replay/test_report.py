"""The page holds every policy, says that it is emulated, and lets no name out of its text."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from app.replay.report import html


def row(policy: str, usd: float | None) -> dict[str, Any]:
    names = ("usd_per_1k_good", "slo_attainment", "regret")
    return {
        "policy": policy, "requests": 10, "usd_per_1k_good": usd, "slo_attainment": 0.9, "goodput_rps": 1.0,
        "ttft_p95_s": 0.1, "tpot_p95_s": None, "regret": None, "bill_with_idle_usd": 3.0,
        "ci95": dict.fromkeys(names) | {"slo_attainment": (0.8, 1.0)},
        "backends": [{"backend": "a&b", "requests": 3, "utilisation_over_time": [0.1, 0.9, 1.0]}],
        "predictions": [{"backend": "a&b", "load": "idle", "requests": 3, "ttft_mape": 0.1, "ttft_q90_coverage": 0.9,
                         "tpot_mape": None, "tpot_q90_coverage": None}],
    }  # fmt: skip


def page(*rows: dict[str, Any]) -> str:
    trace = {"name": "<t>.csv", "format": "azure", "hash": "cafe", "requests": 10, "span_s": 5.0, "corrupt_lines": 2,
             "failed_requests": 0}  # fmt: skip
    return html({
        "policies": rows, "trace": trace, "load": 1.0, "model": "m", "config": "c", "seeds": 1,
        "note": "emulated, not a hardware result",
    })  # fmt: skip


def test_the_page_is_whole() -> None:
    text = page(row("<b>", 0.5), row("other", 5.0), row("nobody", None))
    assert "emulated, not a hardware result" in text
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    assert "90.00 ±10.00" in text
    for part in text.split("<svg")[1:]:
        ElementTree.fromstring("<svg" + part.split("</svg>")[0] + "</svg>")
    assert "http" not in text.replace("http-equiv", "")


def test_there_need_be_nothing_to_draw() -> None:
    nobody = row("nobody", None) | {"backends": []}
    assert "No policy served anything well" in page(nobody)
