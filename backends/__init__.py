"""The silicon: what generates tokens, emulated or live, behind one protocol.

    types.py      frozen values that cross the boundary (requests, chunks, usage, profiles)
    base.py       the Backend and Generation protocols
    errors.py     everything that can go wrong, as a tree
    clock.py      where time comes from: SystemClock or VirtualClock
    datasheet.py  chips and models as published figures with their sources
    registry.py   kind -> module, by name
    emulator/     the engine, its physics and its deterministic text
    <kind>.py     one file a substrate: how its engine deviates from the common one

This package knows nothing of `app`, of HTTP serving, of Redis or of Prometheus.
"""
