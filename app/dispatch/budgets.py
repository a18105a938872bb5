"""How much of all traffic may be extra: retries and hedges must not become the load that breaks a fleet. Pure."""

from __future__ import annotations

WINDOW_NS = 10_000_000_000


class Budget:
    """A token bucket filled by requests: each adds `share`, at most `most` are kept, an extra attempt takes its cost.

    With too little traffic to have saved any, `floor` per 10 s may be taken nonetheless. Over any time n requests allow
    at most share n + most + floor (t / 10 s + 1) cost of extra attempts.
    """

    __slots__ = ("_floor", "_most", "_share", "_spent", "_window", "saved")

    def __init__(self, share: float, most: float, floor: float) -> None:
        self._share = share
        self._most = most
        self._floor = floor
        self._window = 0
        self._spent = 0.0
        self.saved = 0.0

    def request(self) -> None:
        """A request has come."""
        saved = self.saved + self._share
        self.saved = saved if saved < self._most else self._most

    def may(self, cost: float, now_ns: int) -> bool:
        """Whether there is `cost` left for an extra attempt."""
        if self.saved >= cost - 1e-9:
            return True
        spent = self._spent if now_ns // WINDOW_NS == self._window else 0.0
        return spent + cost <= self._floor

    def take(self, cost: float, now_ns: int) -> bool:
        """Take it; False = there is none left."""
        if not self.may(cost, now_ns):
            return False
        if self.saved >= cost - 1e-9:
            self.saved -= cost
            return True
        window = now_ns // WINDOW_NS
        if window != self._window:
            self._window, self._spent = window, 0.0
        self._spent += cost
        return True
