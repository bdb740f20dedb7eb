"""Entries of `scaling.schedule`: when there must be replicas, whatever the demand."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, field_validator, model_validator

from forebay.policies.scaling import FloorWindow, Recurrence
from forebay.spec.files import Seconds, Strict, refusal

_A_WINDOW = "write `from` and `until`, or `cron` and `for`"
_A_TIME = "write a time with its offset, such as 2026-12-01T08:30Z or 2026-12-01T08:30+01:00"


class FloorSpec(Strict):
    """At least so many replicas, ready from the first second of each window on."""

    min: int = Field(ge=1, description="Fewest replicas while it holds.")
    start: datetime | None = Field(
        default=None,
        alias="from",
        description="When it begins, with an offset: 2026-12-01T08:30Z. Replicas are started "
        "earlier, by the measured cold start.",
    )
    until: datetime | None = Field(default=None, description="When it ends, with an offset.")
    cron: str | None = Field(
        default=None,
        examples=["30 8 * * mon-fri"],
        description="Instead of `from`: times at which it begins, as minute, hour, day of month, "
        "month and day of week.",
    )
    duration: Seconds | None = Field(
        default=None, alias="for", gt=0, description="How long it holds from each of those times."
    )
    zone: str = Field(
        default="UTC",
        examples=["Europe/Berlin"],
        description="Time zone of `cron`. Default UTC.",
    )

    @field_validator("start", "until", mode="before")
    @classmethod
    def _read_time(cls, value: Any) -> Any:
        """YAML reads a time with seconds, and a date, by itself; any other time comes as text."""
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise refusal(f"{value!r} is not a time", _A_TIME) from None
        if isinstance(value, date) and not isinstance(value, datetime):
            raise refusal(f"{value.isoformat()} has no time of day", _A_TIME)
        if value is not None and not isinstance(value, datetime):
            raise refusal(f"{value!r} is not a time", _A_TIME)
        if value is not None and value.tzinfo is None:
            raise refusal(f"{value.isoformat()} has no offset", _A_TIME)
        return value

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                CronSim(value, datetime(2026, 1, 1))
            except CronSimError as error:
                raise refusal(
                    f"{value!r} is not a cron expression: {error}", "write one such as 30 8 * * 1-5"
                ) from None
        return value

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # the last of a folder of zones
            raise refusal(
                f"{value!r} is not a time zone", "write one such as Europe/Berlin"
            ) from None
        return value

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        window = (self.start is not None, self.until is not None)
        recurring = (self.cron is not None, self.duration is not None)
        if (all(window), any(recurring)) != (True, False) and (any(window), all(recurring)) != (
            False,
            True,
        ):
            raise refusal("it does not say when", _A_WINDOW)
        if self.start is not None and self.until is not None and self.until <= self.start:
            raise refusal("it ends before it begins", "write a later `until`")
        return self

    def entry(self) -> FloorWindow | Recurrence:
        """What the policy reads."""
        if self.start is not None and self.until is not None:
            return FloorWindow(self.start.timestamp(), self.until.timestamp(), self.min)
        assert self.cron is not None
        assert self.duration is not None
        return Recurrence(self.cron, ZoneInfo(self.zone), self.duration, self.min)
