"""What one of several routers cannot see: the sends of the others since the last publications.

Replicas count what reaches them, so a router learns what share of it is its own. From that follow
two things: how many times over to count a send that the others make too (when a replica looks
least loaded, it does so to all of them), and how far to trust small differences in load at all.
"""

from __future__ import annotations

import math

from forebay.policies.routing.replica_view import Growth

_HALF_LIFE = 500.0  # requests, by which half of what was counted before is forgotten
_PRIOR_REQUESTS = 16.0  # requests after which what was counted outweighs the setting
_MOST = 64.0  # routers; a count far off the setting is a fault of the counts


class OtherRouters:
    """The share of this router in all sends, and the uncertainty that the rest leaves."""

    def __init__(self, routers: int, unseen_for_s: float) -> None:
        """Start from the configured number; a send stays unseen for about `unseen_for_s`."""
        self._routers = float(routers)
        self._unseen_for_s = unseen_for_s
        self._arrivals = self._own = 0.0
        self._squares, self._squares_at = 0.0, 0.0

    def observe(self, growth: Growth) -> None:
        """A replica published: what came to it, and what this router had sent it."""
        keep = 0.5 ** (max(growth.arrivals, growth.own) / _HALF_LIFE)
        self._arrivals = self._arrivals * keep + growth.arrivals
        self._own = self._own * keep + growth.own

    def send(self, work_s: float, now: float) -> None:
        """This router sends so many seconds of work; the others do as it does."""
        self._squares = self._recent(now) + work_s**2
        self._squares_at = now

    def _recent(self, now: float) -> float:
        """Sum of the squares of the work sent of late, fading with its age."""
        age = max(now - self._squares_at, 0.0)
        return self._squares * math.exp(-age / self._unseen_for_s)

    @property
    def scale(self) -> float:
        """All routers' requests for each one of this router."""
        arrivals = self._arrivals + _PRIOR_REQUESTS * self._routers
        return min(max(arrivals / (self._own + _PRIOR_REQUESTS), 1.0), _MOST)

    @property
    def exist(self) -> bool:
        """Whether there are any: whether the scale is nearer two than one."""
        return self.scale > 1.5

    def blur_s(self, replicas: int, now: float) -> float:
        """Standard error of the difference between two replicas' backlogs, in seconds.

        The others' unseen sends fall on `replicas` at random, so the work they bring to one has
        the variance of a compound Poisson sum, the sum of squares; two replicas differ by both.
        """
        return math.sqrt(2.0 * (self.scale - 1.0) * self._recent(now) / replicas)
