"""What a token costs in virtual time, stretch by stretch: the same for every tenant of a class.

Within a class, tenants are ordered by *service*: tokens over weight. The engine's queue knows only
one order, virtual time. A price list maps one to the other. Where nothing has been sold yet, a unit
of service costs the weight of the tenants that are active over the weight of the class, so that a
class advances at its own pace however many tenants it has. Where something has been sold, the price
stays: whoever joins later pays what the others paid for the same stretch, or tags already given
would be unfair to one of them.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from math import ceil

_TRIM = 64  # passed points that may stay: deleting at the front of a list moves the rest


class PriceList:
    """A rising, piecewise linear map between service and virtual time, both in whole units."""

    def __init__(self) -> None:
        """Nothing is sold; a unit of service costs one of virtual time."""
        self._service = [0]
        self._time = [0]
        self._price = 1.0  # of the last stretch; what lies beyond it is taken to cost as much

    @property
    def end(self) -> int:
        """The service up to which prices are fixed."""
        return self._service[-1]

    @property
    def end_time(self) -> int:
        """The virtual time up to which prices are fixed."""
        return self._time[-1]

    def service_at(self, time: int) -> int:
        """The service that virtual time has reached, rounded down."""
        index = bisect_right(self._time, time) - 1
        if index < 0:
            return self._service[0]
        passed = time - self._time[index]
        if index == len(self._time) - 1:
            return self._service[index] + int(passed / self._price)
        return self._service[index] + passed * self._units(index) // self._length(index)

    def time_at(self, service: int) -> int:
        """The virtual time at which this service is due, rounded down; never before the list."""
        index = bisect_right(self._service, service) - 1
        if index < 0:
            return self._time[0]
        beyond = service - self._service[index]
        if index == len(self._service) - 1:
            return self._time[index] + int(beyond * self._price)
        return self._time[index] + beyond * self._length(index) // self._units(index)

    def pass_to(self, time: int) -> None:
        """Virtual time has come to `time`: forget what lies before it."""
        if time > self._time[-1]:
            self._service, self._time = [self.service_at(time)], [time]
            return
        passed = bisect_right(self._time, time) - 1
        if passed > _TRIM:
            del self._service[:passed], self._time[:passed]

    def sell_to(self, service: int, price: float) -> None:
        """Fix the price of everything up to `service` that has none yet (time per service)."""
        units = service - self._service[-1]
        if units <= 0:
            return
        self._time.append(self._time[-1] + max(ceil(units * price), 1))
        self._service.append(service)
        self._price = price

    def _units(self, index: int) -> int:
        return self._service[index + 1] - self._service[index]

    def _length(self, index: int) -> int:
        return self._time[index + 1] - self._time[index]

    def check_integrity(self) -> None:
        """Both axes rise strictly.

        Raises:
            AssertionError: one does not.
        """
        for axis in (self._service, self._time):
            assert all(a < b for a, b in pairwise(axis)), axis
