"""A value that can be written in several ways, each under a key of its own."""

from typing import ClassVar, Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from forebay.spec.files.problems import refusal
from forebay.spec.files.strict import Strict


class OneOf(Strict):
    """Takes exactly one of the keys in `ways`, and is refused where what it describes is."""

    ways: ClassVar[tuple[str, ...]]

    @property
    def way(self) -> str:
        """The key that was written."""
        return self._written()[0]

    def _written(self) -> list[str]:
        return [name for name in self.ways if getattr(self, name) is not None]

    @model_validator(mode="after")
    def _just_one(self) -> Self:
        written, ways = self._written(), ", ".join(self.ways)
        if not written:
            raise refusal(f"takes one of {ways}", "write one of them")
        if len(written) > 1:
            raise refusal(f"holds {' and '.join(written)}, but takes one", "keep one of them")
        return self._accepted()

    def _accepted(self) -> Self:
        """Makes what it describes once, so that an impossible one is refused in its line."""
        try:
            self.make()
        except PydanticCustomError:
            raise
        except ValueError as error:
            raise refusal(str(error)) from None
        return self

    def make(self) -> object:
        """What it describes.

        Raises:
            ValueError: it cannot be.
        """
        raise NotImplementedError
