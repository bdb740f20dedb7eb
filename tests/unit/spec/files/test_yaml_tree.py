"""YAML by libyaml: as quick as it should be, and as PyYAML reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from forebay.spec.files import SpecError, Tree, parse

ROOT = Path(__file__).parents[4]
FILES = sorted([*ROOT.glob("examples/**/*.yaml"), *ROOT.glob("src/forebay/**/*.yaml")])
SNIPPETS = (
    "a: &x {b: 1, c: [1, ~, 2026-01-01]}\nd:\n  <<: *x\n  e: 1:30\n",
    "\n# c\n- |\n  text\n   more\n\n- >-\n  folded\n  x\n-\n- 'it''s\n  two'  # c\n",
    '%YAML 1.1\n---\n\U0001f600: 1\n\u00e9: {"\\u00e9": 2, x: 3}\n...\n',
    "a: 1\r\nb:\r\n- c: !!str 3\r\n  ? d\r\n  : 4\r\n",
)
WRONG = (
    "a: [b\n",
    "a: 1\n\tb: 2",
    "a: *b",
    "a: \0",
    "a: 1\n---\nb: 2",
    "a: 'b",
    "\na: @b",
    "- a\nb: 1",
    "a: {b: 1]\n",
    "a: !!int [1]",
    "? [a]\n: 1",
)

needs_libyaml = pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML without libyaml")


def without_libyaml(monkeypatch: pytest.MonkeyPatch, text: str) -> Tree:
    with monkeypatch.context() as patched:
        patched.setattr(yaml, "__with_libyaml__", False)
        return parse(text, "f.yaml")


@needs_libyaml
def test_what_is_right_is_read_without_pyyamls_slow_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(yaml, "SafeLoader")
    assert parse("a: [1, b]", "f.yaml").data == {"a": [1, "b"]}


@pytest.mark.parametrize("text", [*(file.read_text() for file in FILES), *SNIPPETS])
def test_values_and_places_are_those_of_pyyaml(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(text, "f.yaml") == without_libyaml(monkeypatch, text)


@pytest.mark.parametrize("text", WRONG)
def test_a_refusal_has_pyyamls_words(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError) as one:
        parse(text, "f.yaml")
    with pytest.raises(SpecError) as other:
        without_libyaml(monkeypatch, text)
    assert one.value.problems == other.value.problems


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_however_deeply_it_is_nested_it_is_refused(opening: str) -> None:
    with pytest.raises(SpecError, match="nested too deeply"):
        parse(opening * 200_000, "f.yaml")
