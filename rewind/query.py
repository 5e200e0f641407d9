"""Queries: which events are meant, by their type, tags, category and stream.

The words are those of the Dynamic Consistency Boundary (https://dcb.events/specification/): a query is
any of several items, and an item names types (any of them), tags (all of them), and, which is Rewind's
own, categories and streams (any of them); whatever an item names must hold.

The category of a stream is its name before the first ``-``, as in KurrentDB and message-db. A name
without one, or that begins with one, is its own category.

Nothing is looked up here: backends find what matches in their index. Next: events.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from rewind.arguments import number_of, several, texts_of, wrong_kind
from rewind.errors import BadRequest

#: Does an event of this stream and type, with these tags, match?
Matches = Callable[[str, str, tuple[str, ...]], bool]


def category_of(stream: str) -> str:
    """The category of a stream."""
    dash = stream.find("-")
    return stream[:dash] if dash > 0 else stream


#: The kinds of names that a store lists. Streams have a list of their own.
NAME_KINDS = ("type", "tag", "category")

_FIELDS = ("types", "tags", "categories", "streams")


class EmptyItem(BadRequest, ValueError):
    """A query item has no names.

    It is a ``ValueError`` as well, to which msgspec adds where in the message the item stands.
    """


class QueryItem(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Events of any of these types, with all of these tags, of any of these categories, and of any of
    these streams: of each only what is given.

    The same names in another order, or given twice, make an equal item. Raises ``BadRequest`` when no
    name is given at all, and ``TypeError`` for anything but texts.
    """

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()

    if TYPE_CHECKING:  # Any iterable of texts is taken, and becomes a tuple.

        def __init__(
            self,
            *,
            types: Iterable[str] = (),
            tags: Iterable[str] = (),
            categories: Iterable[str] = (),
            streams: Iterable[str] = (),
        ) -> None: ...

    def __post_init__(self) -> None:
        for name in _FIELDS:
            given = getattr(self, name)
            # One name is the usual case on the wire, where every append with a condition has it.
            if given == () or (type(given) is tuple and len(given) == 1 and type(given[0]) is str):
                continue
            msgspec.structs.force_setattr(self, name, tuple(sorted(set(texts_of(given, name)))))
        if not (self.types or self.tags or self.categories or self.streams):
            raise EmptyItem("the query item is empty: name a type, tag, category or stream")

    @property
    def names(self) -> int:
        """How many names it has."""
        return len(self.types) + len(self.tags) + len(self.categories) + len(self.streams)


class Query:
    """Events that match any of its items. Immutable; equal if its items are, in their order.

    ``Query(item, ...)``, or ``Query.all()`` for every event. ``items``: None for every event.
    """

    __slots__ = ("items",)
    items: tuple[QueryItem, ...] | None

    def __init__(self, *items: QueryItem) -> None:
        for index, item in enumerate(items):
            if not isinstance(item, QueryItem):
                raise wrong_kind(f"items[{index}]", item, "give a QueryItem")
        if not items:
            raise BadRequest("the query is empty: give an item, or Query.all() for every event")
        object.__setattr__(self, "items", items)

    @classmethod
    def all(cls) -> Query:
        """The query that every event matches."""
        query = cls.__new__(cls)
        object.__setattr__(query, "items", None)
        return query

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a query is immutable")

    def __eq__(self, other: object) -> bool:
        return self.items == other.items if isinstance(other, Query) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.items)

    def __repr__(self) -> str:
        if self.items is None:
            return "Query.all()"
        return f"Query({', '.join(map(repr, self.items))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Query.all, ()) if self.items is None else (Query, self.items)


def query_of(query: Query | QueryItem, name: str = "query") -> Query:
    """A query as a caller gave it: an item is taken where a query is. Raises ``WrongKind``."""
    if isinstance(query, QueryItem):
        return Query(query)
    if isinstance(query, Query):
        return query
    raise wrong_kind(name, query, "give a Query or a QueryItem")


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An append condition on the wire: fail if events match these items, None for every event, behind
    the position ``after``."""

    fail_if_events_match: tuple[QueryItem, ...] | None
    after: int = 0


class AppendCondition:
    """Fail if events match a query after the position that a decision was made at.

    ``fail_if_events_match``: a ``Query``, or an item. ``after``: a position, 0: whenever they came.
    Immutable. Raises ``BadRequest`` and ``TypeError``.
    """

    __slots__ = ("after", "fail_if_events_match")
    fail_if_events_match: Query
    after: int

    def __init__(self, fail_if_events_match: Query | QueryItem, after: int = 0) -> None:
        query = query_of(fail_if_events_match, "fail_if_events_match")
        object.__setattr__(self, "fail_if_events_match", query)
        object.__setattr__(self, "after", number_of(after, "after", "give a position"))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a condition is immutable")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AppendCondition):
            return NotImplemented
        return (self.fail_if_events_match, self.after) == (other.fail_if_events_match, other.after)

    def __hash__(self) -> int:
        return hash((self.fail_if_events_match, self.after))

    def __repr__(self) -> str:
        return f"AppendCondition({self.fail_if_events_match!r}, after={self.after})"

    def __reduce__(self) -> tuple[Any, ...]:
        return AppendCondition, (self.fail_if_events_match, self.after)


def conditions_of(
    conditions: AppendCondition | Iterable[AppendCondition], name: str = "conditions"
) -> tuple[Condition, ...]:
    """Conditions as a caller gave them, one or several, for the wire. Raises ``WrongKind``."""
    if isinstance(conditions, AppendCondition):
        conditions = (conditions,)
    advice = "give an AppendCondition or a list of them"
    found = []
    for index, condition in enumerate(several(conditions, name, advice)):
        if not isinstance(condition, AppendCondition):
            raise wrong_kind(f"{name}[{index}]", condition, "give an AppendCondition")
        found.append(Condition(condition.fail_if_events_match.items, condition.after))
    return tuple(found)


def matcher(items: Iterable[QueryItem] | None) -> Matches:
    """A function that tells whether an event matches any of these items; None: every event does.

    The names are made sets once: comparing an event with 256 types costs as much as with one.
    """
    if items is None:
        return lambda stream, type, tags: True
    each = [_matcher_of_item(item) for item in items]
    if len(each) == 1:
        return each[0]
    return lambda stream, type, tags: any(matches(stream, type, tags) for matches in each)


def _matcher_of_item(item: QueryItem) -> Matches:
    types, tags_wanted = frozenset(item.types), frozenset(item.tags)
    categories, streams = frozenset(item.categories), frozenset(item.streams)

    def matches(stream: str, type: str, tags: tuple[str, ...]) -> bool:
        return (
            (not types or type in types)
            and (not tags_wanted or tags_wanted.issubset(tags))
            and (not streams or stream in streams)
            and (not categories or category_of(stream) in categories)
        )

    return matches
