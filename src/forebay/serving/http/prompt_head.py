"""The head of a prompt, read from a request's body: what two prompts may share in a prefix cache.

An engine caches what the chat template renders, and templates render tools, then the system's
words, then the messages in order, however the body's keys are ordered. So that is the order here:
two prompts share bytes of this text where they share tokens in the engine. It is not the rendered
text, and need not be: only where it is equal and where it stops being equal count.

A body of up to 64 KiB is parsed as a whole. Of a longer one, or one that the proxy has cut, only
the head is read, message by message; both ways give the same text, so a conversation that outgrows
the first is found again by the second. One exception: tools that stand behind messages in a body
that was cut cannot be seen, and a conversation whose bodies begin to be cut (96 KiB) is then met
as a new one, once.
"""

from __future__ import annotations

import json
import re
from array import array
from dataclasses import dataclass, field
from hashlib import blake2b
from json import JSONDecoder
from typing import Any

from forebay.policies.routing import LONGEST_TEXT, Prompt, chunk_hashes
from forebay.serving.http.json_bodies import loads
from forebay.wire import (
    BEFORE_MESSAGES,
    CONVERSATION,
    MEDIA_BYTES,
    TEXT_FIELDS,
    given_to_tool,
    is_media,
    prompt_parts,
    prompts_in,
)

_WHOLE = 64 * 1024  # bytes of body parsed as a whole: some 0.2 ms
_HEAD = LONGEST_TEXT + 32 * 1024  # bytes read of a longer one; JSON's own signs take some
_MOST_MESSAGES = 1024  # read of a head; each costs a microsecond or two
_MOST_TRIES = 16  # places looked at for a key, so that no body makes this slow
# Of content parts; in a string's text the quotes would be escaped.
_MEDIA_KEYS = (
    '"image_url"', '"input_image"', '"image"', '"video_url"', '"audio_url"', '"input_audio"',
)  # fmt: skip
_DECODER = JSONDecoder(strict=False)
_NEXT = re.compile(r"[\s,]*")
_VALUE = re.compile(r"\s*:\s*")
_TEXT_BEGINS = re.compile(r'"(?:content|text)"\s*:\s*"')
_LONGEST_ESCAPE = 12  # characters of a surrogate pair, \ud83d\ude00


@dataclass(slots=True)
class _Text:
    """The prompt's text as it grows.

    Attributes:
        parts: encoded text, in order.
        size: bytes in it, and in what belongs to the prompt but was not read.
        home_end: bytes up to the end of the first words of a user; 0 without any.
        ends_in_image: whether what was read ends within one.
    """

    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    home_end: int = 0
    ends_in_image: bool = False

    def add(self, text: str | bytes) -> None:
        part = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        self.parts.append(part)
        self.size += len(part)

    def add_message(self, message: Any) -> None:
        if not isinstance(message, dict):
            self.add(f"{_words(message)}\x1e")
            return
        role, words = message.get("role"), message.get("content")
        if not (isinstance(words, str) and "role" in message and len(message) == 2):
            words = _words(message)  # few messages have more
        self.add(f"{words}\x1f{role}\x1e")  # the role last: a cut message has none yet
        if role == "user" and not self.home_end:
            self.home_end = self.size


def read_prompt(body: bytes, full_size: int | None = None, session: bytes | None = None) -> Prompt:
    """What a router needs to know of a request; never raises, whatever the body is.

    Args:
        body: the body, or as much of it as the proxy forwarded.
        full_size: bytes of the body before it was cut; None where it is not known to be.
        session: what the client named its session, if it did.
    """
    size = max(full_size or 0, len(body))
    try:
        text = _read(body, size)
    except (ValueError, RecursionError):
        text = _Text()  # the gate will say what is wrong with it
    return _prompt(text, session)


def prompt_of(data: dict[str, Any]) -> Prompt:
    """The same of a body that has been parsed, and is a valid request as far as the gate looks."""
    return _prompt(_read_fields(data), None)


def _prompt(text: _Text, session: bytes | None) -> Prompt:
    head = b"".join(text.parts)[:LONGEST_TEXT]
    return Prompt(
        size=text.size,
        chunks=chunk_hashes(head),
        home=_hash(head[: text.home_end]) if text.home_end else 0,
        session=_hash(session) if session else 0,
    )


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _read(body: bytes, size: int) -> _Text:
    if size <= _WHOLE and size == len(body):
        try:
            return _read_fields(loads(body))
        except ValueError:
            pass  # cut without a word: uploads of unknown length are
    return _read_head(body, size)


def _read_fields(data: Any) -> _Text:
    text = _Text()
    if not isinstance(data, dict):
        return text
    for name, value in prompt_parts(data):
        if name in CONVERSATION:
            text.add_message(value)
        else:
            text.add(_before(value))
    _add_prompts(text, data.get("prompt"))
    return text


def _before(value: Any) -> str:
    return f"{value if isinstance(value, str) else _dumped(value)}\x1e"


def _add_prompts(text: _Text, prompt: Any) -> None:
    """A completion's prompt; of several, each with a prefix of its own, the first is followed."""
    for index, one in enumerate(prompts_in(prompt)):
        encoded = _encoded(one)
        if index == 0:
            text.add(encoded)
        else:
            text.size += len(encoded)


def _encoded(prompt: Any) -> bytes:
    if isinstance(prompt, str):
        return prompt.encode("utf-8", "surrogatepass")
    if not isinstance(prompt, list):
        return b""
    try:
        return array("I", prompt).tobytes()  # four bytes, about what a token has in English
    except (TypeError, OverflowError):
        return b""


def _words(value: Any) -> str:
    """All text in a message, a content part, or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join([_words(item) for item in value])
    if not isinstance(value, dict):
        return ""
    if is_media(value):
        return _media(value)
    words = "".join([_words(value[key]) for key in TEXT_FIELDS if key in value])
    dumped = (value.get("tool_calls"), given_to_tool(value))
    return words + "".join([_dumped(one) for one in dumped if one])


def _media(part: dict[str, Any]) -> str:
    """As many bytes as an image's tokens are worth, the same for the same image."""
    digest = blake2b(_dumped(part).encode(), digest_size=16).hexdigest()
    return digest * (MEDIA_BYTES // len(digest))


def _dumped(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _read_head(body: bytes, size: int) -> _Text:
    head = body[:_HEAD].decode("utf-8", "ignore")
    text = _Text()
    for name in BEFORE_MESSAGES:
        if (value := _find_value(head, body, name)) is not None:
            text.add(_before(value))
    for name in (*CONVERSATION, "prompt"):
        start = _value_at(head, name)
        if start is not None and head[start : start + 1] in ("[", '"'):
            _add_head(text, head, start, is_prompt=name == "prompt")
            break
    read = min(len(body), _HEAD)
    if read < size and not text.ends_in_image:  # what was not read will be like what was
        # Of what nothing could be read, most is refused: taken for a prompt in all its length, it
        # would have its replica passed over for as long as such a prompt takes.
        text.size = round(text.size * size / read) if text.size else read
    return text


def _find_value(head: str, body: bytes, name: str) -> Any:
    """The value of a key in the head, or in the last 64 KiB; None where it is cut."""
    start = _value_at(head, name)
    if start is None and len(body) > _HEAD:
        at = body.rfind(f'"{name}"'.encode(), max(len(body) - _WHOLE, _HEAD))
        if at >= 0:
            head = body[at:].decode("utf-8", "ignore")
            start = _value_at(head, name)
    if start is None:
        return None
    try:
        return _DECODER.raw_decode(head, start)[0]
    except ValueError:
        return None


def _value_at(text: str, name: str) -> int | None:
    """Where a key's value begins. In a string's text the quotes of a key would be escaped."""
    quoted = f'"{name}"'
    at = -1
    for _ in range(_MOST_TRIES):
        at = text.find(quoted, at + 1)
        if at < 0:
            return None
        if found := _VALUE.match(text, at + len(quoted)):
            return found.end()
    return None


def _add_head(text: _Text, head: str, start: int, *, is_prompt: bool) -> None:
    """Add messages or a prompt that begin at `start`, up to where they can be read."""
    if head[start] == '"':
        text.add(_cut_string(head[start + 1 :]))
    elif is_prompt and _begins_with_digit(head, start + 1):
        text.add(_encoded(_ids(head, start)))
    else:
        _add_items(text, head, start + 1, most=1 if is_prompt else _MOST_MESSAGES)


def _add_items(text: _Text, head: str, at: int, most: int) -> None:
    """Add at most so many elements of the list whose first one begins at `at`."""
    for _ in range(most):
        at = _end_of(_NEXT, head, at)
        if at >= len(head) or head[at] == "]":
            return
        try:
            item, at = _DECODER.raw_decode(head, at)
        except ValueError:
            _add_cut(text, head[at:])
            return
        if most > 1:
            text.add_message(item)
        else:
            text.add(_encoded(item))


def _begins_with_digit(head: str, at: int) -> bool:
    at = _end_of(_NEXT, head, at)
    return head[at : at + 1].isdigit()


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


def _ids(head: str, start: int) -> Any:
    """The token ids of a list, without the last one where it may be cut."""
    end = head.find("]", start)
    if end < 0:
        end = head.rfind(",", start)
    return json.loads(head[start:end] + "]") if end > start else []


def _add_cut(text: _Text, rest: str) -> None:
    """Add a message, or a prompt, that is cut; an image that is, as what images are worth."""
    text.add(_cut_item(rest))
    if max(rest.rfind(key) for key in _MEDIA_KEYS) > rest.rfind('"text"'):
        text.size += MEDIA_BYTES
        text.ends_in_image = True


def _cut_item(rest: str) -> str:
    """The readable text of a message, or a prompt, that is cut."""
    if rest.startswith('"'):
        return _cut_string(rest[1:])
    found = _TEXT_BEGINS.search(rest)
    return _cut_string(rest[found.end() :]) if found else ""


def _cut_string(rest: str) -> str:
    """The text of a JSON string without its opening quote, up to its end or to where it is cut."""
    try:
        return str(_DECODER.raw_decode('"' + rest)[0])
    except ValueError:
        pass
    escape = rest.find("\\", max(len(rest) - _LONGEST_ESCAPE, 0))
    while escape > 0 and rest[escape - 1] == "\\":
        escape -= 1
    whole = rest if escape < 0 else rest[:escape]
    try:
        text = str(_DECODER.decode(f'"{whole}"'))
    except ValueError:
        return ""
    return text[:-1] if "\ud800" <= text[-1:] <= "\udbff" else text  # half of a pair
