"""Writes dashboards/turnout.json: the board as code, so that a renamed metric shows in review.

python deploy/grafana/board.py > deploy/grafana/dashboards/turnout.json
"""

from __future__ import annotations

import json
from typing import Any

RATE = "$__rate_interval"
SOURCE = {"type": "prometheus", "uid": "prometheus"}

ROWS: list[tuple[str, list[tuple[str, str, list[tuple[str, str]]]]]] = [
    (
        "Serving",
        [
            ("Requests", "reqps", [("{{code}}", f"sum by (code) (rate(turnout_requests_total[{RATE}]))")]),
            (
                "Time to first token, p95",
                "s",
                [
                    (
                        "{{backend}}",
                        "histogram_quantile(0.95, sum by (le, backend) "
                        f"(rate(turnout_time_to_first_token_seconds_bucket[{RATE}])))",
                    )
                ],
            ),
            (
                "Time per output token, p95",
                "s",
                [
                    (
                        "{{backend}}",
                        "histogram_quantile(0.95, sum by (le, backend) "
                        f"(rate(turnout_time_per_output_token_seconds_bucket[{RATE}])))",
                    )
                ],
            ),
            (
                "Promises kept",
                "percentunit",
                [
                    (
                        "{{model}} {{objective}}",
                        f'sum by (model, objective) (rate(turnout_slo_requests_total{{result="good"}}[{RATE}])) / '
                        f"sum by (model, objective) (rate(turnout_slo_requests_total[{RATE}]))",
                    )
                ],
            ),
            ("In flight", "short", [("{{backend}}", "sum by (backend) (turnout_inflight_requests)")]),
            (
                "What the gateway adds, p99",
                "s",
                [
                    (
                        "{{stage}}",
                        f"histogram_quantile(0.99, sum by (le, stage) (rate(turnout_overhead_seconds_bucket[{RATE}])))",
                    )
                ],
            ),
        ],
    ),
    (
        "Cost",
        [
            (
                "USD per hour",
                "currencyUSD",
                [("{{kind}}", f"3600 * sum by (kind) (rate(turnout_cost_usd_total[{RATE}]))")],
            ),
            (
                "USD per million tokens",
                "currencyUSD",
                [
                    (
                        "{{substrate}} {{model}}",
                        f"1e6 * sum by (substrate, model) (rate(turnout_cost_usd_total[{RATE}])) / "
                        f"sum by (substrate, model) (rate(turnout_tokens_total[{RATE}]))",
                    )
                ],
            ),
            (
                "Saved against the reference backend",
                "percentunit",
                [
                    (
                        "{{model}}",
                        f"1 - sum by (model) (rate(turnout_cost_usd_total[{RATE}])) / "
                        f"sum by (model) (rate(turnout_reference_cost_usd_total[{RATE}]))",
                    )
                ],
            ),
            (
                "Idle silicon, USD per hour",
                "currencyUSD",
                [
                    (
                        "{{backend}}",
                        f"3600 * (sum by (backend) (rate(turnout_backend_capacity_cost_usd_total[{RATE}])) - "
                        f"(sum by (backend) (rate(turnout_cost_usd_total[{RATE}])) or "
                        f"0 * sum by (backend) (rate(turnout_backend_capacity_cost_usd_total[{RATE}]))))",
                    )
                ],
            ),
            (
                "Paid for, not delivered",
                "currencyUSD",
                [("{{reason}}", f"3600 * sum by (reason) (rate(turnout_wasted_cost_usd_total[{RATE}]))")],
            ),
            (
                "Saved by the cache",
                "currencyUSD",
                [("{{kind}}", f"3600 * sum by (kind) (rate(turnout_cache_saved_usd_total[{RATE}]))")],
            ),
        ],
    ),
    (
        "Routing",
        [
            (
                "Decisions by backend",
                "reqps",
                [("{{backend}}", f"sum by (backend) (rate(turnout_decisions_total[{RATE}]))")],
            ),
            ("Why they won", "reqps", [("{{reason}}", f"sum by (reason) (rate(turnout_decisions_total[{RATE}]))")]),
            (
                "Why others did not",
                "reqps",
                [
                    (
                        "{{backend}} {{reason}}",
                        f"sum by (backend, reason) (rate(turnout_candidates_rejected_total[{RATE}]))",
                    )
                ],
            ),
            (
                "Predicted / actual, median",
                "short",
                [
                    (
                        "{{backend}} {{quantity}}",
                        "histogram_quantile(0.5, sum by (le, backend, quantity) "
                        f"(rate(turnout_prediction_ratio_bucket[{RATE}])))",
                    )
                ],
            ),
            (
                "Cache hits per look-up",
                "percentunit",
                [
                    (
                        "{{model}}",
                        f'sum by (model) (rate(turnout_cache_lookups_total{{result="hit"}}[{RATE}])) / '
                        f"sum by (model) (rate(turnout_cache_lookups_total[{RATE}]))",
                    )
                ],
            ),
            (
                "Failed attempts",
                "reqps",
                [("{{backend}} {{reason}}", f"sum by (backend, reason) (rate(turnout_upstream_errors_total[{RATE}]))")],
            ),
        ],
    ),
]


def board() -> dict[str, Any]:
    """The dashboard as Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    top = 0
    for row, graphs in ROWS:
        panels.append(
            {
                "type": "row",
                "title": row,
                "id": len(panels) + 1,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": top},
                "panels": [],
            }
        )
        top += 1
        for place, (title, unit, queries) in enumerate(graphs):
            panels.append(
                {
                    "type": "timeseries",
                    "title": title,
                    "id": len(panels) + 1,
                    "datasource": SOURCE,
                    "gridPos": {"h": 8, "w": 8, "x": 8 * (place % 3), "y": top + 8 * (place // 3)},
                    "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                    "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
                    "targets": [
                        {"refId": chr(65 + index), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
                        for index, (legend, expression) in enumerate(queries)
                    ],
                }
            )
        top += 8 * -(-len(graphs) // 3)
    return {
        "uid": "turnout",
        "title": "Turnout",
        "tags": ["turnout"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "panels": panels,
    }


if __name__ == "__main__":
    print(json.dumps(board(), indent=2))
