"""How much context a built backend has."""

from __future__ import annotations

import pytest

from backends import registry
from backends.clock import VirtualClock
from backends.errors import DoesNotFit
from backends.types import BackendSpec, DeploymentSpec
from tests.sheets import sheets


def built(chip: str, model: str, precision: str, chips: int, context: int | None = None) -> int:
    spec = BackendSpec("b", "gpu", chip, chips, (DeploymentSpec(model, precision, context),))
    return registry.build(spec, sheets(), VirtualClock()).info.deployments[model].context_tokens


def test_a_context_asked_for_by_name_must_have_room() -> None:
    assert built("h100", "llama-3.3-70b", "fp8", 2, 131_072) == 131_072
    with pytest.raises(DoesNotFit, match=r"context_tokens 131,072 .* does not fit: 1 x"):
        built("mi300x", "llama-3.3-70b", "bf16", 1, 131_072)


def test_without_one_it_is_what_memory_leaves() -> None:
    spec = BackendSpec("b", "gpu", "mi300x", 1, (DeploymentSpec("llama-3.3-70b", "bf16"),))
    info = registry.build(spec, sheets(), VirtualClock()).info
    assert 1_500 < info.deployments["llama-3.3-70b"].context_tokens < 131_072


def test_a_chip_is_calibrated_for_experts_only_where_such_were_measured() -> None:
    def calibration(chip: str, model: str, precision: str) -> str:
        spec = BackendSpec("b", "gpu", chip, 8, (DeploymentSpec(model, precision),))
        return registry.build(spec, sheets(), VirtualClock()).info.deployments[model].calibration

    assert calibration("mi300x", "llama-3.3-70b", "fp8") == "calibrated"
    assert calibration("mi300x", "gpt-oss-120b", "mxfp4") == "uncalibrated"
    assert calibration("h100", "gpt-oss-120b", "mxfp4") == "calibrated"
