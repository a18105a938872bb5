"""Replay of real traffic in virtual time, through the gateway's own decisions, dispatch, metering and engines."""
