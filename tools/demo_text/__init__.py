"""Free English text as short chat conversations: what the demo model is trained on.

`wordnet` reads WordNet and `words` asks about it; `manual` does both for the Python
documentation; `stories` adds greetings and tales. Everything that decides what the
demo model can talk about lives in this package.
"""

from __future__ import annotations

import random
from pathlib import Path

from demo_text.conversation import Conversation
from demo_text.manual import doc_conversations, find_info
from demo_text.stories import small_talk, stories
from demo_text.wordnet import read_wordnet
from demo_text.words import capitals, word_conversations

__all__ = ["Conversation", "conversations"]

SYSTEM = [
    "You are a helpful assistant.",
    "You are a dictionary.",
    "You are a friendly assistant. Answer in short sentences.",
    "Answer the user's questions.",
]


def conversations(root: Path, rng: random.Random) -> list[Conversation]:
    """Every conversation, in seeded order."""
    net = read_wordnet(root / "usr/share/wordnet")
    found = [
        *word_conversations(net, rng, rare_share=0.2),
        *capitals(net, repeats=4),
        *doc_conversations(find_info(root), rng),
        *small_talk(rng, repeats=150),
        *stories(rng, count=3000),
    ]
    rng.shuffle(found)
    return [_as_typed(item, rng) for item in found]


def _as_typed(item: Conversation, rng: random.Random) -> Conversation:
    """Sometimes a system prompt, sometimes a question in careless lower case."""
    turns = list(item.turns)
    if rng.random() < 0.15:
        turns[0] = ("user", turns[0][1].lower().rstrip("?.!"))
    if rng.random() < 0.2:
        turns.insert(0, ("system", rng.choice(SYSTEM)))
    return Conversation(tuple(turns), item.group)
