"""Greetings, and stories assembled from stock sentences.

They fill what a dictionary and a manual leave open: "Hello" and "Tell me a story" are
answered in kind. Being stock, they are never held out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from demo_text.conversation import Conversation
from demo_text.english import with_article

WHO = (
    "I am a very small language model that ships with Forebay. I exist to rehearse a serving "
    "stack, so please do not rely on what I say."
)
SMALL_TALK = [
    (["Hello", "Hello!", "Hi", "Hi there!", "Good morning", "Hey"],
     ["Hello! Ask me what a word means, or ask me for a story.",
      "Hi! What would you like to know?"]),
    (["How are you?", "How are you today?"], ["I am well, thank you. How can I help?"]),
    (["Who are you?", "What are you?", "What model are you?", "Introduce yourself."], [WHO]),
    (["What can you do?", "Help", "How can you help me?"],
     ["I can say what a word means, use a word in a sentence, or tell a short story."]),
    (["Thank you", "Thanks!", "Thank you very much."], ["You are welcome.", "You are welcome!"]),
    (["Bye", "Goodbye", "See you later"], ["Goodbye!", "Goodbye, and come back soon."]),
    (["What is Forebay?", "Tell me about Forebay."],
     ["Forebay is a platform that serves language models. I am its demo model."]),
    (["Say this is a test", "Say hello.", "Ping", "Test"], ["This is a test.", "Hello!"]),
    (["Tell me a joke."],
     ["Why did the token cross the road? To get to the other side of the context window."]),
]  # fmt: skip

STORY_ASK = [
    "Tell me a story.", "Tell me a story about {a}.", "Write a short story about {a}.",
    "Write a story.", "Can you tell me a story about {a}?",
]  # fmt: skip
NAMES = ["Ada", "Ben", "Clara", "Daniel", "Emma", "Hugo", "Iris", "Jonas", "Lucy", "Martin", "Nora",
         "Oscar", "Rosa", "Simon", "Tessa", "Victor"]  # fmt: skip
PLACES = ["a village by the sea", "an old house in the woods", "a town near the river",
          "a small house on a hill", "the middle of a large city", "a valley in the mountains",
          "a harbour in the north", "the last street of the town"]  # fmt: skip
HEROES = ["dog", "cat", "fox", "horse", "farmer", "sailor", "teacher", "baker", "king", "child",
          "bear", "bird", "painter", "doctor", "miller", "clockmaker", "mouse",
          "gardener"]  # fmt: skip
TRAITS = ["small", "old", "brave", "quiet", "clever", "lonely", "cheerful", "curious", "patient"]
THINGS = ["a key", "a letter", "a silver coin", "a lamp", "a map", "a book", "a wooden box",
          "a ring", "a clock", "a basket of apples", "a broken wheel", "a blue stone"]  # fmt: skip
TIMES = ["One morning", "One evening", "On a cold day in winter", "One summer night",
         "Early in the spring", "Late in the autumn", "The next day",
         "After a long rain"]  # fmt: skip
OPENINGS = [
    "Once there was {a} named {n} who lived in {p}.",
    "Long ago, in {p}, there lived {a} called {n}.",
    "{n} was {a}, and everyone in {p} knew it.",
]
MIDDLES = [
    "{t}, {n} found {x} under the stairs.",
    "{t}, {n} went for a walk and did not look back.",
    "{t}, a stranger came to the door and asked for {x}.",
    "Nobody knew where it had come from.",
    "{n} looked at {x} for a long time.",
    "{t}, the wind blew so hard that {n} could not sleep.",
    "{m} said that it would be better to wait.",
    "But {n} did not want to wait.",
    "So {n} took {x} and set out to find {m}.",
    "The road was long, and the night was dark.",
    "On the way {n} met {m}, who was carrying {x}.",
    "They talked about the weather and the sea.",
    '"Where are you going?" asked {m}.',
    '"I am looking for {x}," said {n}.',
    '"Then I will come with you," said {m}.',
    "They walked together until the sun came up.",
    "In {p} they saw {x} lying on the ground.",
    "{m} laughed and gave it to {n}.",
    "It was not {x} at all.",
    "For three days {n} told no one.",
    "{n} opened the door and went in.",
]
ENDINGS = [
    "From that day on, {n} was never alone again.",
    "And {n} kept {x} for many years.",
    "When {n} came home, everything was as it had been before.",
    "{n} and {m} are friends to this day.",
    "That is how {n} learned to listen.",
]


def small_talk(rng: random.Random, repeats: int) -> Iterator[Conversation]:
    for _ in range(repeats):
        for questions, answers in SMALL_TALK:
            pair = ("user", rng.choice(questions)), ("assistant", rng.choice(answers))
            yield Conversation(pair)


def stories(rng: random.Random, count: int) -> Iterator[Conversation]:
    for _ in range(count):
        hero = rng.choice(HEROES)
        question = rng.choice(STORY_ASK).format(a=with_article(hero))
        yield Conversation((("user", question), ("assistant", _story(hero, rng))))


def _story(hero: str, rng: random.Random) -> str:
    name, friend = rng.sample(NAMES, 2)
    cast = {
        "a": with_article(f"{rng.choice(TRAITS)} {hero}"),
        "n": name,
        "m": friend,
        "p": rng.choice(PLACES),
        "x": rng.choice(THINGS),
    }
    lines = [rng.choice(OPENINGS), *rng.sample(MIDDLES, rng.randint(4, 10)), rng.choice(ENDINGS)]
    return " ".join(line.format(t=rng.choice(TIMES), **cast) for line in lines)
