"""How many watts a group of chips draws: an estimate from the datasheet's TDP and how busy the engine is.

    watts = TDP * chips * (IDLE + (BUSY - IDLE) * utilisation)        utilisation = busy time / time

Nobody publishes what these chips draw while they serve; TDP is what their cooling is built for. An engine at work is
taken to draw 70 % of it and an idle one 15 %, the same for every substrate: both shares are assumptions, of the order
that published measurements of GPU inference show (Samsi et al., "From Words to Watts", 2023; Patel et al., "POLCA:
Power Oversubscription in LLM Cloud Providers", 2023). A chip whose TDP is not public has no estimate, never zero.
"""

from __future__ import annotations

from backends.datasheet import ChipSheet
from backends.types import PowerEstimate

BUSY_SHARE_OF_TDP = 0.70
IDLE_SHARE_OF_TDP = 0.15


def power(chip: ChipSheet, chips: int) -> PowerEstimate | None:
    """Watts of the whole group, busy and idle; None where the chip's TDP is not public."""
    if chip.tdp_w.value is None:
        return None
    tdp_w = chip.tdp_w.value * chips
    return PowerEstimate(busy_w=tdp_w * BUSY_SHARE_OF_TDP, idle_w=tdp_w * IDLE_SHARE_OF_TDP)
