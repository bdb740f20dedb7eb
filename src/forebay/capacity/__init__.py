"""Finding out what a service sustains."""

from forebay.capacity.search import Found, Next, RateSearch, Trial, bracket

__all__ = ["Found", "Next", "RateSearch", "Trial", "bracket"]
