"""API keys: how one is made, what is kept of it, and how it is kept out of messages.

A key is `fb_` and 256 random bits. What is stored is one SHA-256 of it. Stretching (bcrypt, Argon2)
slows down the guessing of what people think up; 256 random bits cannot be guessed at any speed, and
the hash is computed for every request. The prefix lets secret scanners and people recognise a key.
"""

import hashlib
import re
import secrets

KEY_PREFIX = "fb_"
HASH_PREFIX = "sha256:"
KEY_HASH = re.compile(rf"{HASH_PREFIX}[0-9a-f]{{64}}")

_KEY_BYTES = 32
_SHOWN_DIGITS = 12  # 48 bits: two keys of a file share them in one of 10^9 files of 700 keys
_KEYLIKE = re.compile(rf"{KEY_PREFIX}[A-Za-z0-9_-]{{8,}}")
_DIGITS = re.compile(rf"([0-9a-f]{{{_SHOWN_DIGITS}}})[0-9a-f]{{20,}}", re.IGNORECASE)


def new_key() -> str:
    """A fresh key: `fb_` and 43 URL-safe characters."""
    return KEY_PREFIX + secrets.token_urlsafe(_KEY_BYTES)


def key_digest(key: str) -> bytes:
    """The SHA-256 of a key as presented, prefix and all."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def key_hash(key: str) -> str:
    """What the tenants file stores of a key: `sha256:` and 64 hexadecimal digits."""
    return HASH_PREFIX + key_digest(key).hex()


def digest_of(stored: str) -> bytes:
    """The digest in a stored hash."""
    return bytes.fromhex(stored.removeprefix(HASH_PREFIX))


def short_hash(stored: str) -> str:
    """As much of a stored hash as is shown: enough to name it."""
    return stored[: len(HASH_PREFIX) + _SHOWN_DIGITS]


def without_secrets(text: str) -> str:
    """The text with every key blotted out and every hash cut short, for messages and logs."""
    return _DIGITS.sub(r"\1...", _KEYLIKE.sub(f"{KEY_PREFIX}...", text))
