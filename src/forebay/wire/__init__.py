"""What goes over the wire: HTTP/1.1, event streams, OpenAI's errors and bodies. No IO."""

from forebay.wire.errors import error_body, error_in, error_object
from forebay.wire.http1 import CONTINUE, FRAMING, LAST_CHUNK, Head, HeadReader, chunk, response
from forebay.wire.prompt_parts import (
    BEFORE_MESSAGES,
    CONVERSATION,
    DUMPED_FIELDS,
    MEDIA_BYTES,
    TEXT_FIELDS,
    given_to_tool,
    is_media,
    prompt_parts,
    prompts_in,
)
from forebay.wire.sse import DONE, LONGEST_LINE, TokenStream, event, lines_of, text_of, usage_of
from forebay.wire.targets import Target, base_url

__all__ = [
    "BEFORE_MESSAGES",
    "CONTINUE",
    "CONVERSATION",
    "DONE",
    "DUMPED_FIELDS",
    "FRAMING",
    "LAST_CHUNK",
    "LONGEST_LINE",
    "MEDIA_BYTES",
    "TEXT_FIELDS",
    "Head",
    "HeadReader",
    "Target",
    "TokenStream",
    "base_url",
    "chunk",
    "error_body",
    "error_in",
    "error_object",
    "event",
    "given_to_tool",
    "is_media",
    "lines_of",
    "prompt_parts",
    "prompts_in",
    "response",
    "text_of",
    "usage_of",
]
