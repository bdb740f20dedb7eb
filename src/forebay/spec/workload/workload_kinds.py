"""How a workload file writes the kinds of request."""

import json
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from forebay.spec.files import Share, Strict, kind_of, refusal
from forebay.spec.workload.workload_files import opened, read_columns, resolved
from forebay.spec.workload.workload_laws import LengthsSpec, PauseSpec
from forebay.workload import (
    Cancelling,
    Conversations,
    Independent,
    Joint,
    Kind,
    PairLaw,
    PrefixPool,
    sharegpt_lengths,
)
from forebay.workload.conversations import Pairs

BYTES_PER_TOKEN = 4.0  # of English text in common vocabularies; counts texts without a tokenizer

_SOURCES = "write prompt and output, or joint, or sharegpt"
_PAIR = "a prompt and an output of 1 token or more"


class PrefixesSpec(Strict):
    """Shared beginnings of prompts: system prompts, tools, few-shot examples."""

    count: int = Field(ge=1, description="How many different ones there are.")
    tokens: LengthsSpec = Field(description="Their lengths; each has one, drawn once.")
    zipf: float = Field(
        default=1.0,
        ge=0,
        description="The k-th most popular comes up with weight k^-zipf. Default 1, the law that "
        "Zipf found for words; 0 makes all alike.",
    )


class ConversationSpec(Strict):
    """Sessions of several turns, the history growing."""

    turns: LengthsSpec = Field(description="How many turns a session has.")
    think: PauseSpec = Field(description="From the end of an answer to the next question.")


class CancelSpec(Strict):
    """Clients that leave before the end."""

    share: Share = Field(description="Of the requests.")
    after: PauseSpec = Field(description="After asking, if the answer is not finished by then.")


class TenantSpec(Strict):
    """A tenant among those whose requests these are."""

    name: str = Field(min_length=1, description="Name in the records.")
    weight: float = Field(default=1.0, gt=0, description="Share of the requests, relative.")
    api_key_env: str | None = Field(
        default=None,
        description="Environment variable that holds its API key. Default: the run's own key.",
    )


class KindSpec(Strict):
    """One kind of request."""

    name: str = Field(default="requests", min_length=1, description="Name in the records.")
    share: float = Field(default=1.0, gt=0, description="Weight among the kinds, by sessions.")
    prompt: LengthsSpec | None = Field(
        default=None,
        description="Tokens that each turn adds by itself; shared prefixes come on top.",
    )
    output: LengthsSpec | None = Field(default=None, description="Tokens of each answer.")
    joint: str | list[list[int]] | None = Field(
        default=None,
        description="Prompt and output lengths that belong together, instead of `prompt` and "
        "`output`: pairs, or a CSV file with the columns prompt and output.",
    )
    sharegpt: str | None = Field(
        default=None,
        description="A ShareGPT file whose conversations give the lengths of all turns, instead of "
        "`prompt` and `output`. Its texts are counted (4 bytes a token), not sent.",
    )
    prefixes: PrefixesSpec | None = Field(
        default=None, description="Shared beginnings. Default: none."
    )
    conversation: ConversationSpec | None = Field(
        default=None, description="Several turns a session. Default: single requests."
    )
    cancel: CancelSpec | None = Field(
        default=None, description="Clients that leave. Default: none."
    )
    class_name: str = Field(
        default="",
        alias="class",
        description="Traffic class, sent as `x-forebay-class`; Forebay knows `interactive` and "
        "`batch`. Default: the server's own.",
    )
    tenants: list[TenantSpec] = Field(
        default_factory=list, description="Whose requests these are. Default: nobody's."
    )

    @field_validator("class_name")
    @classmethod
    def _fits_a_header(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("a class is sent in a header: printable ASCII")
        return value

    @field_validator("joint", mode="before")
    @classmethod
    def _file_or_pairs(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            return resolved(value, info)
        if value is not None:
            _check_pairs(value)
        return value

    @field_validator("sharegpt")
    @classmethod
    def _found(cls, value: str | None, info: ValidationInfo) -> str | None:
        return value if value is None else resolved(value, info)

    @field_validator("tenants")
    @classmethod
    def _told_apart(cls, value: list[TenantSpec]) -> list[TenantSpec]:
        names = [tenant.name for tenant in value]
        if len(set(names)) != len(names):
            raise refusal("two tenants have one name", "give each its own name")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        own = self.prompt is not None or self.output is not None
        sources = sum([own, self.joint is not None, self.sharegpt is not None])
        if sources != 1:
            raise refusal(
                f"has {'more than one law' if sources else 'no law'} of lengths", _SOURCES
            )
        if own and (self.prompt is None or self.output is None):
            absent = "prompt" if self.prompt is None else "output"
            raise refusal(f"has no {absent}", f"write {absent}: and how many tokens")
        if self.sharegpt is not None and self.conversation is None:
            raise refusal(
                "sharegpt gives turns, but not the time between them",
                "add conversation: {turns: 1, think: 10s}; its turns are not used",
            )
        self.make()
        return self

    def make(self) -> Kind:
        """The kind; reads the files that it names.

        Raises:
            PydanticCustomError: a file does not hold what it should.
        """
        try:
            return self._kind()
        except PydanticCustomError:
            raise
        except OSError as error:
            raise refusal(f"{error.filename} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise refusal(str(error)) from None

    def _kind(self) -> Kind:
        talk, leave = self.conversation, self.cancel
        return Kind(
            name=self.name,
            share=self.share,
            lengths=self._lengths(),
            recorded=self._recorded(),
            prefixes=self._prefixes(),
            conversations=Conversations(talk.turns.make(), talk.think.make()) if talk else None,
            cancelling=Cancelling(leave.share, leave.after.make()) if leave else None,
            class_name=self.class_name,
            tenants=tuple((tenant.name, tenant.weight) for tenant in self.tenants),
        )

    def _prefixes(self) -> PrefixPool | None:
        shared = self.prefixes
        if shared is None:
            return None
        return PrefixPool(self.name, shared.count, shared.tokens.make(), shared.zipf)

    def _lengths(self) -> PairLaw:
        if self.prompt is not None and self.output is not None:
            return Independent(self.prompt.make(), self.output.make())
        if isinstance(self.joint, str):
            return Joint(_read_pairs(self.joint))
        pairs = self.joint or [[1, 1]]  # a ShareGPT file has lengths of its own
        return Joint(tuple((prompt, output) for prompt, output in pairs))

    def _recorded(self) -> tuple[Pairs, ...]:
        """The lengths in the ShareGPT file, if there is one.

        Raises:
            ValueError: it is none.
            OSError: it cannot be read.
        """
        if self.sharegpt is None:
            return ()
        with opened(self.sharegpt) as file:
            text = file.read()
        try:
            return sharegpt_lengths(json.loads(text), _count_tokens)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.sharegpt} is not JSON: {error}") from None
        except ValueError as error:
            raise ValueError(f"{self.sharegpt}: {error}") from None


def _count_tokens(text: str) -> int:
    """An estimate; half an emoji, as such files hold now and then, counts as a letter."""
    return max(1, round(len(text.encode(errors="replace")) / BYTES_PER_TOKEN))


def _check_pairs(value: object) -> None:
    hint = "write pairs such as [[500, 20], [80, 300]], or the name of a CSV file"
    if not isinstance(value, list) or not value:
        what = "an empty list" if value == [] else kind_of(value)
        raise refusal(f"{what} is neither pairs of lengths nor a file", hint)
    for number, pair in enumerate(value, 1):
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_length, pair)):
            raise refusal(f"pair {number}, {pair!r}, is not {_PAIR}", hint)


def _read_pairs(path: str) -> Pairs:
    pairs = []
    for line, prompt, output in read_columns(path, ("prompt", "output")):
        if min(prompt, output) < 1 or prompt % 1 or output % 1:
            raise refusal(f"{path}, line {line}: not {_PAIR}")
        pairs.append((int(prompt), int(output)))
    return tuple(pairs)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
