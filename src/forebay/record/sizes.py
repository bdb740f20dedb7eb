"""From a prompt to what a recording holds of it: tokens and block names."""

from __future__ import annotations

from dataclasses import dataclass

from forebay.record.prompt_texts import Prompt
from forebay.record.pseudonyms import Pseudonyms
from forebay.workload import MOONCAKE_BLOCK


@dataclass(frozen=True, slots=True)
class BlockSize:
    """How text is cut into blocks without a tokenizer.

    A block has the same number of bytes in every request, or equal beginnings would not give
    equal names. So where a text has other than `bytes_per_token`, its blocks are somewhat more or
    fewer tokens than they say.

    Attributes:
        tokens: of a block.
        bytes_per_token: of text; 4 is English in common vocabularies.
    """

    tokens: int = MOONCAKE_BLOCK
    bytes_per_token: float = 4.0

    def __post_init__(self) -> None:
        if self.tokens < 1 or not self.bytes_per_token >= 0.25:
            raise ValueError("a block has 1 token or more, and a token a quarter of a byte or more")

    @property
    def bytes(self) -> int:
        """Of a block of text."""
        return max(1, round(self.tokens * self.bytes_per_token))

    def tokens_in(self, size: int) -> int:
        """Tokens that so many bytes of text are likely to be, 1 or more."""
        return max(1, round(size / self.bytes_per_token))


def estimated_tokens(prompt: Prompt, size: BlockSize) -> int:
    """How many tokens a prompt has, without its tokenizer."""
    text_tokens = size.tokens_in(len(prompt.text)) if prompt.text or not prompt.ids else 0
    return text_tokens + len(prompt.ids)


def block_names(prompt: Prompt, size: BlockSize, names: Pseudonyms) -> tuple[str, ...]:
    """Names of the prompt's whole blocks; none for a list of several prompts."""
    if not prompt.whole:
        return ()
    if prompt.ids:
        return names.id_blocks(prompt.ids, size.tokens)
    return names.blocks(prompt.text, size.bytes)


def fitting_blocks(blocks: tuple[str, ...], tokens: int, size: BlockSize) -> tuple[str, ...]:
    """Those of the blocks that a prompt of so many tokens can have."""
    return blocks[: tokens // size.tokens]
