"""The base of every model that a person writes: nothing unknown, nothing converted, frozen."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Refuses unknown keys and converted types ("8" is not 8); cannot be changed once built."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
