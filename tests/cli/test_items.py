"""``--query``: what an item says, and what is wrong with one."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind import QueryItem
from rewind.cli.items import parse_item


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("type=A", QueryItem(types=["A"])),
        ("type=A type=B tag=x tag=y", QueryItem(types=["A", "B"], tags=["x", "y"])),
        ("category=order stream=order-1", QueryItem(categories=["order"], streams=["order-1"])),
        ('type=A tag="two words"', QueryItem(types=["A"], tags=["two words"])),
        ("'tag=two words'", QueryItem(tags=["two words"])),
        (r"tag=two\ words", QueryItem(tags=["two words"])),
        ("tag=k=v=w", QueryItem(tags=["k=v=w"])),
        ("tag='\"' tag=it\\'s", QueryItem(tags=['"', "it's"])),
        ("  type=A\n\ttag=x ", QueryItem(types=["A"], tags=["x"])),
        ("tag=#1 tag=ü tag=a,b", QueryItem(tags=["#1", "ü", "a,b"])),
        ("type=", QueryItem(types=[""])),
        ("type=A type=A", QueryItem(types=["A"])),
    ],
)
def test_an_item_says_which_events(text: str, item: QueryItem) -> None:
    assert parse_item(text) == item


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the item is empty: write key=value words"),
        (" \t", "the item is empty"),
        ("OrderPlaced", "'OrderPlaced' is no key=value: write key=value words"),
        ("type=A B", "'B' is no key=value"),
        ("type=A types=B", "'types' in 'types=B' is no key: there are type, tag, category, stream"),
        ("=A", "'' in '=A' is no key"),
        ("Type=A", "'Type' in 'Type=A' is no key"),
        ("tag=", "'tag=' has no value: no tag is empty"),
        ("stream=''", "'stream=' has no value: no stream is empty"),
        ("category=", "'category=' has no value"),
        ('tag="two words', "a quotation mark is not closed"),
        ("tag=it's", "a quotation mark is not closed"),
        ("tag=x\\", "it ends with a backslash"),
    ],
)
def test_what_is_wrong_with_an_item_is_named(text: str, said: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_item(text)
    assert said in str(error.value)


texts = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))


@given(texts, texts, texts, texts)
def test_whatever_a_shell_can_quote_is_taken_as_it_is(
    types: list[str], tags: list[str], categories: list[str], streams: list[str]
) -> None:
    keys = {"type": types, "tag": tags, "category": categories, "stream": streams}
    words = [f"{key}={value}" for key, values in keys.items() for value in values]
    if words:
        item = parse_item(" ".join(map(shlex.quote, words)))
        assert item == QueryItem(types=types, tags=tags, categories=categories, streams=streams)
