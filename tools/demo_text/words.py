"""Questions about words, answered from WordNet's glosses, examples and relations."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

from demo_text.conversation import Conversation, Turn
from demo_text.english import listing, sentence, with_article
from demo_text.wordnet import Sense, WordNet

DEFINE = {
    "n": ["What is {a}?", "What does {w} mean?", "Define {w}.", "Explain what {a} is.", "{w}?"],
    "v": ["What does it mean to {w}?", "What does {w} mean?", "Define the verb {w}.", "{w}?"],
    "a": ["What does {w} mean?", "Define {w}.", "What does the word {w} mean?"],
    "r": ["What does {w} mean?", "Define {w}.", "What does the word {w} mean?"],
}
SENTENCE = ["Use {w} in a sentence.", "Give me an example of {w}.", "Show me how to use {w}."]
SYNONYM = ["Give me another word for {w}.", "What is a synonym for {w}?", "Another word for {w}?"]
OPPOSITE = ["What is the opposite of {w}?", "Give me an antonym of {w}."]
KINDS = ["Name some kinds of {w}.", "List a few kinds of {w}.", "What kinds of {w} are there?"]
MORE = ["Tell me about {w}.", "Tell me more about {w}.", "Write a paragraph about {w}."]


def word_conversations(
    net: WordNet, rng: random.Random, rare_share: float
) -> Iterator[Conversation]:
    """Several conversations per common word; one for a ``rare_share`` of the rest."""
    for key, sense in net.senses.items():
        for word in sense.words:
            lemma = (sense.pos, word.lower())
            if net.ranked.get(lemma, [""])[0] != key:
                continue  # ask only about the sense people mean first
            if lemma in net.common:
                turns = list(_word_turns(net, sense, word, rng))
                for pair in turns:
                    yield Conversation(pair, key)
                if len(turns) > 1:
                    first, second = rng.sample(turns, 2)
                    yield Conversation(first + second, key)
            elif rng.random() < rare_share:
                yield Conversation(_define(sense, word, rng), key)


def _word_turns(
    net: WordNet, sense: Sense, word: str, rng: random.Random
) -> Iterator[tuple[Turn, ...]]:
    yield _define(sense, word, rng)
    usable = [text for text in sense.examples if word.lower() in text.lower()]
    if usable:
        yield _pair(rng.choice(SENTENCE), word, sentence(rng.choice(usable)))
    others = [other for other in sense.words if other != word]
    if others:
        text = f"Another word for {word} is {listing(others[:3], 'or')}."
        yield _pair(rng.choice(SYNONYM), word, text)
    if opposites := net.related(sense, "!"):
        text = f"The opposite of {word} is {opposites[0].words[0]}."
        yield _pair(rng.choice(OPPOSITE), word, text)
    kinds = list(dict.fromkeys(kind.words[0] for kind in net.related(sense, "~")))
    if len(kinds) > 2:
        chosen = rng.sample(kinds, min(5, len(kinds)))
        lines = "\n".join(f"- {kind}" for kind in chosen)
        yield _pair(rng.choice(KINDS), word, f"Some kinds of {word} are:\n{lines}")
    if sense.pos == "n":
        yield _pair(rng.choice(MORE), word, _paragraph(net, sense, word, kinds, rng))


def _define(sense: Sense, word: str, rng: random.Random) -> tuple[Turn, ...]:
    return _pair(rng.choice(DEFINE[sense.pos]), word, _definition(sense, word))


def _definition(sense: Sense, word: str) -> str:
    if sense.pos == "v":
        return sentence(f"to {word} is to {sense.gloss}")
    if sense.pos == "n":
        return sentence(f"{with_article(word)} is {sense.gloss}")
    return sentence(f"{word} means {sense.gloss}")


def _paragraph(net: WordNet, sense: Sense, word: str, kinds: list[str], rng: random.Random) -> str:
    """A definition, then its wider term, its parts and kinds, and two examples."""
    sentences = [_definition(sense, word)]
    for wider in net.related(sense, "@")[:1]:
        sentences.append(sentence(f"it is a kind of {wider.words[0]}"))
        sentences.append(_definition(wider, wider.words[0]))
    if parts := [part.words[0] for part in net.related(sense, "%p")]:
        sentences.append(sentence(f"its parts include {listing(parts[:4], 'and')}"))
    if kinds:
        sentences.append(sentence(f"kinds of {word} are {listing(kinds[:4], 'and')}"))
    narrower = rng.sample(net.related(sense, "~"), min(2, len(kinds)))
    sentences.extend(_definition(kind, kind.words[0]) for kind in narrower)
    return " ".join(sentences)


def _pair(question: str, word: str, answer: str) -> tuple[Turn, ...]:
    asked = question.format(w=word, a=with_article(word))
    return ("user", asked[0].upper() + asked[1:]), ("assistant", answer)


CAPITAL = re.compile(
    r"^(?:the )?(?:national )?capital(?: and [\w ]+ city)? of "
    r"(?P<country>(?:the )?[A-Z]\w+(?: [A-Z]\w+)*)"
)


def capitals(net: WordNet, repeats: int) -> Iterator[Conversation]:
    """The question everyone tries first, often enough that its form sticks."""
    for key, sense in net.senses.items():
        if sense.pos == "n" and (found := CAPITAL.match(sense.gloss)):
            country = found["country"]
            question = ("user", f"What is the capital of {country}?")
            answer = ("assistant", f"The capital of {country} is {sense.words[0]}.")
            yield from [Conversation((question, answer), key)] * repeats
