"""Benchling's request budgets: fixed windows, one for each app and a hidden one for the whole tenant."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Window:
    """So many calls in each period of `seconds`. `spend` returns False when the period's calls are used up."""

    limit: int
    seconds: float
    _period: int = -1
    _spent: int = 0

    def _turn(self, now: float) -> None:
        period = math.floor(now / self.seconds)
        if period != self._period:
            self._period, self._spent = period, 0

    def spend(self, now: float, calls: int = 1) -> bool:
        """Take calls out of the current period; a refused call takes nothing."""
        self._turn(now)
        if self._spent + calls > self.limit:
            return False
        self._spent += calls
        return True

    def remaining(self, now: float) -> int:
        """Calls left in the current period."""
        self._turn(now)
        return max(0, self.limit - self._spent)

    def reset(self, now: float) -> int:
        """Whole seconds until the next period, rounded up."""
        return max(1, math.ceil((math.floor(now / self.seconds) + 1) * self.seconds - now))

    def exhaust(self, now: float) -> None:
        """Use up the current period."""
        self._turn(now)
        self._spent = self.limit


@dataclass
class Budgets:
    """All windows of a tenant."""

    tenant: Window
    key: Window
    app_limit: int
    seconds: float
    _apps: dict[str, Window] = field(default_factory=dict)

    def of(self, caller: str) -> Window:
        """The visible window of a caller: its app's, or the one that all API keys share."""
        if caller == "api-key":
            return self.key
        return self._apps.setdefault(caller, Window(self.app_limit, self.seconds))

    def admit(self, caller: str, now: float) -> bool:
        """Whether a call is served; it spends both budgets or neither."""
        visible = self.of(caller)
        if visible.remaining(now) < 1 or self.tenant.remaining(now) < 1:
            return False
        return visible.spend(now) and self.tenant.spend(now)
