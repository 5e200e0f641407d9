"""What every backend promises of queries, names, marks and the numbers of commits.

The second half of contract.py, which has the first and the means. What matches is compared with a plain
look at every record, ``matcher`` being the judge of one event.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from contract import MANY, BackendFixtures, Kind, Scribe, read_all

from rewind.backends import Backend, Commit
from rewind.backends.memory import MemoryBackend
from rewind.errors import Behind
from rewind.events import decode_event, own_id_prefix
from rewind.query import NAME_KINDS, QueryItem, category_of, matcher

# Streams have no control characters; types and tags of an older release may have any.
STREAMS = ["order-1", "order-2", "order", "-x", "ä-東京", "a", "é-1", "s" * 255]
TYPES = ["", "a", "a\0", "a\0\0", "a\0b", "a\x01", "ab", "\0", "\x01", "ä", "\U0001f600", "t" * 255]
TAGS = ["a", "a\0", "a\0\x01", "a\x01", "a:1", "a:10", "\0", "\x01\0", "東京", "g" * 255]


def positions_of(
    backend: Backend, items: list[QueryItem], after: int = 0, until: int = MANY
) -> list[int]:
    """The positions that match, by a look at every record."""
    matches = matcher(items)
    events = map(decode_event, backend.read(after, until, MANY, 2**40))
    return [e.position for e in events if matches(e.stream, e.type, e.tags)]


def walked(backend: Backend, items: list[QueryItem], backwards: bool, *bounds: int) -> list[int]:
    """The positions that match in ``after, until``, by pages of ``limit``, each of few ``seeks``."""
    after, until, limit, seeks = bounds
    found: list[int] = []
    while True:
        positions, reached = backend.matching(items, after, until, limit, backwards, seeks)
        assert len(positions) <= limit
        assert all(after < position <= until for position in positions)
        found += positions
        if after >= min(until, backend.last().position):
            assert positions == []  # and what was reached means nothing
            return found
        if backwards:
            assert after < reached <= until + 1, "it made progress, and looked at nothing outside"
            assert all(position >= reached for position in positions)
            until = reached - 1
        else:
            assert after < reached <= until
            assert all(position <= reached for position in positions)
            after = reached


class IndexContract(BackendFixtures):
    """The promises. ``backend`` is an empty, open one; ``scribe`` writes to it."""

    # --- queries ---

    def test_an_empty_store_matches_nothing(self, backend: Backend) -> None:
        for item in items_of(types=[""], tags=["a"], categories=["a"], streams=["a"]):
            for backwards in (False, True):
                assert backend.matching([item], 0, MANY, 10, backwards).positions == []
                assert backend.read_matching([item], 0, MANY, 10, MANY, backwards)[0] == []
        for kind in NAME_KINDS:
            assert backend.names(kind, "", None, 10) == []

    def test_each_kind_of_name_is_found(self, backend: Backend, scribe: Scribe) -> None:
        scribe.write(
            {"stream": "order-1", "type": "placed", "tags": ("vip", "web")},
            {"stream": "order-2", "type": "placed", "tags": ("web",)},
            {"stream": "mail-1", "type": "sent", "tags": ()},
        )
        scribe.write({"stream": "order-1", "type": "paid", "tags": ("vip",)})

        def found(**names: Any) -> list[int]:
            return backend.matching([QueryItem(**names)], 0, 4, 10).positions

        assert found(types=["placed"]) == [1, 2]
        assert found(types=["sent", "paid", "lost"]) == [3, 4]
        assert found(tags=["vip"]) == [1, 4]
        assert found(tags=["vip", "web"]) == [1]
        assert found(categories=["order"]) == [1, 2, 4]
        assert found(categories=["mail", "order"]) == [1, 2, 3, 4]
        assert found(streams=["order-1"]) == [1, 4]
        assert found(streams=["order-1"], types=["placed"]) == [1]
        assert found(categories=["order"], tags=["web"]) == [1, 2]
        assert found(categories=["order-1"]) == found(streams=["order"]) == []

    def test_any_of_several_items_matches_an_event_once(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        for n in range(6):
            scribe.write({"stream": f"s-{n}", "type": "tT"[n % 2], "tags": (f"g{n % 3}",)})
        items = [QueryItem(types=["t"]), QueryItem(tags=["g0"]), QueryItem(streams=["s-0", "s-5"])]
        assert backend.matching(items, 0, 6, 10).positions == [1, 3, 4, 5, 6]
        assert backend.matching(items, 0, 6, 10, backwards=True).positions == [6, 5, 4, 3, 1]

    def test_every_range_and_limit_of_a_walk(self, backend: Backend, scribe: Scribe) -> None:
        for n in range(5):
            scribe.write(*({"stream": f"s-{m % 2}", "tags": ("g",) * (m > n)} for m in range(4)))
        for item in (QueryItem(tags=["g"]), QueryItem(streams=["s-1"])):
            expected = positions_of(backend, [item])
            for after in range(22):
                for until in range(22):
                    within = [n for n in expected if after < n <= until]
                    for limit in (0, 1, 2, MANY):
                        found = backend.matching([item], after, until, limit)
                        assert found.positions == within[:limit]
                        found = backend.matching([item], after, until, limit, True)
                        assert found.positions == within[::-1][:limit]

    def test_a_tag_that_an_event_has_twice_is_found_once(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        scribe.write({"stream": "a", "tags": ("g", "h", "g")}, "a", {"stream": "a", "tags": ("g",)})
        assert backend.matching([QueryItem(tags=["g"])], 0, 3, 10).positions == [1, 3]

    @pytest.mark.parametrize("backwards", [False, True])
    def test_names_of_any_characters_lead_to_their_own_events(
        self, backend: Backend, scribe: Scribe, backwards: bool
    ) -> None:
        for _ in range(2):
            scribe.write(*({"stream": s, "type": t} for s in STREAMS for t in TYPES))
            scribe.write(*({"stream": s, "tags": (g,)} for s in STREAMS for g in TAGS))
        names: dict[str, list[str]] = {
            "types": TYPES,
            "tags": TAGS,
            "streams": STREAMS,
            "categories": [category_of(stream) for stream in STREAMS],
        }
        for field, of_kind in names.items():
            for name in of_kind:
                items = [QueryItem(**{field: (name,)})]  # type: ignore[arg-type]
                expected = positions_of(backend, items)
                assert expected
                if backwards:
                    expected.reverse()
                assert backend.matching(items, 0, MANY, MANY, backwards).positions == expected

    @pytest.mark.parametrize("size", [10, 300, 5_000, 17_000])
    def test_records_that_match_are_read(self, backend: Backend, scribe: Scribe, size: int) -> None:
        data = random.Random(size).randbytes(size)
        written: list[bytes] = []
        for n in range(12):
            events = [
                {
                    "stream": f"s-{m}",
                    "type": "tT"[m % 2],
                    "tags": (f"g{(n + m) % 5}",),
                    "data": data,
                }
                for m in range(n)
            ]
            written += scribe.write(*events, {"stream": "end"})
        for items in (
            [QueryItem(tags=["g1"])],
            [QueryItem(types=["t"])],
            [QueryItem(types=["t"], tags=["g1"])],
            [QueryItem(categories=["s", "end"], tags=["g2"]), QueryItem(streams=["s-1", "end"])],
        ):
            expected = [written[n - 1] for n in positions_of(backend, items)]
            head = len(written)
            assert backend.read_matching(items, 0, head, MANY, 2**40) == (expected, head)
            down, reached = backend.read_matching(items, 0, head, MANY, 2**40, True)
            assert (down, reached) == (expected[::-1], 1)
            for limit in range(4):
                assert backend.read_matching(items, 0, head, limit, 2**40)[0] == expected[:limit]
            lengths = len(expected[0]) + len(expected[1])
            assert backend.read_matching(items, 0, head, 9, lengths)[0] == expected[:2]
            assert backend.read_matching(items, 0, head, 9, lengths - 1)[0] == expected[:1]
            pages: list[bytes] = []
            after = 0
            while after < head:
                page, reached = backend.read_matching(items, after, head, 3, lengths)
                assert reached > after
                pages, after = pages + page, reached
            assert pages == expected

    def test_what_is_sought_far_apart_is_found(self, backend: Backend, scribe: Scribe) -> None:
        for n in range(150):
            tags = ("rare",) if n % 50 == 20 else ("other",)
            scribe.write({"stream": f"s-{n % 7}", "tags": tags, "data": b"x" * 9_000}, "fill")
        for items in (
            [QueryItem(tags=["rare"], categories=["s"])],
            [QueryItem(tags=["rare"], streams=["s-6", "fill"])],
            [QueryItem(streams=["s-6"], tags=["other"])],
        ):
            expected = positions_of(backend, items)
            assert expected
            assert backend.matching(items, 0, 300, MANY).positions == expected
            assert backend.matching(items, 0, 300, MANY, True).positions == expected[::-1]

    def test_a_walk_ends_early_but_never_without_progress(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        for start in range(0, 400, 100):
            numbers = range(start, start + 100)
            types = ("odd", "even")
            scribe.write(
                *({"stream": "a", "type": types[n % 2], "tags": (f"g{n % 4}",)} for n in numbers)
            )
        nothing = [QueryItem(types=["even"], tags=["g0"])]  # alternates, and is never both
        assert positions_of(backend, nothing) == []
        assert backend.matching(nothing, 0, 400, 10, seeks_max=4).reached < 400
        assert backend.matching(nothing, 0, 400, 10, True, seeks_max=4).reached > 1
        for items in (nothing, [QueryItem(types=["even"], tags=["g1"]), *nothing]):
            expected = positions_of(backend, items)
            assert walked(backend, items, False, 0, 400, 5, 1) == expected
            assert walked(backend, items, True, 0, 400, 5, 1) == expected[::-1]

    # --- names ---

    def test_names_of_a_kind_are_listed_in_utf8_order(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        last: dict[str, dict[str, int]] = {kind: {} for kind in NAME_KINDS}
        for n in range(40):
            event = {
                "stream": STREAMS[n % len(STREAMS)],
                "type": TYPES[n * 5 % len(TYPES)],
                "tags": (TAGS[n % len(TAGS)], TAGS[n * 3 % len(TAGS)]),
            }
            scribe.write(event)
            last["type"][event["type"]] = n + 1
            last["category"][category_of(event["stream"])] = n + 1
            last["tag"] |= dict.fromkeys(event["tags"], n + 1)
        for kind in NAME_KINDS:
            expected = sorted(last[kind].items(), key=lambda row: row[0].encode())
            assert backend.names(kind, "", None, 100) == expected
            for prefix in ("", "a", "a\0", "\0", "\x01", "ä", "t" * 255, "x"):
                begun = [row for row in expected if row[0].startswith(prefix)]
                assert backend.names(kind, prefix, None, 100) == begun
                assert backend.names(kind, prefix, None, 2) == begun[:2]
                assert backend.names(kind, prefix, None, 0) == []
                for after in (
                    "",
                    "a",
                    "a\0",
                    "a\0\0",
                    "a\x01",
                    "aa",
                    "b",
                    "\0",
                    "東京",
                    "\U0001f601",
                ):
                    rest = [row for row in begun if row[0].encode() > after.encode()]
                    assert backend.names(kind, prefix, after, 100) == rest

    def test_a_name_says_its_last_position(self, backend: Backend, scribe: Scribe) -> None:
        scribe.write(*({"stream": f"s-{n}", "tags": (f"g{n % 3}",)} for n in range(100)))
        scribe.write({"stream": "s-1", "type": "other", "tags": ("g1",)})
        assert backend.names("tag", "", None, 9) == [("g0", 100), ("g1", 101), ("g2", 99)]
        assert backend.names("type", "", None, 9) == [("Happened", 100), ("other", 101)]
        assert backend.names("category", "", None, 9) == [("s", 101)]

    # --- marks, and numbers of commits ---

    def test_marks_change_with_events_and_alone(self, backend: Backend, scribe: Scribe) -> None:
        assert backend.marks(["a"]) == {} and backend.marks_from("", "", 9) == []
        scribe.write("s", marks={"a": b"1", "b": b"\0"})
        scribe.write(marks={"a": b"2", "ä": b"x" * 1_000})
        assert backend.marks(["a", "b", "c", "ä"]) == {"a": b"2", "b": b"\0", "ä": b"x" * 1_000}
        scribe.write("s", marks={"b": None, "c": None, "a": b"3"})
        assert backend.marks(["a", "b", "c"]) == {"a": b"3"}
        assert backend.marks_from("", "", 9) == [("a", b"3"), ("ä", b"x" * 1_000)]
        scribe.write(marks={"b": b"again"})
        assert backend.marks(["b"]) == {"b": b"again"}
        assert backend.last()[::2] == (2, 4)
        assert list(backend.check()) == []

    def test_marks_are_listed_in_utf8_order_by_prefix_and_pages(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        names = ["p:a", "p:a b", "p:ab", "p:b", "p:\ufffd", "p:\U0001f600", "p", "q:a", "o"]
        scribe.write(marks={name: name.encode() for name in names})
        names.sort(key=str.encode)
        assert [name for name, _ in backend.marks_from("", "", 99)] == names
        of_p = [(name, name.encode()) for name in names if name.startswith("p:")]
        assert backend.marks_from("p:", "", 99) == of_p
        assert backend.marks_from("p:", "p:a", 2) == of_p[1:3]
        assert backend.marks_from("p:", "o", 99) == of_p
        assert backend.marks_from("p:", "q", 99) == backend.marks_from("p:", "", 0) == []

    def test_each_commit_has_the_next_number(self, backend: Backend, scribe: Scribe) -> None:
        scribe.write("a", "b", "c")
        assert backend.last()[::2] == (3, 1)
        time = backend.last().recorded_at_ns
        for number in (2, 3):
            scribe.write(marks={"m": b"%d" % number})
            assert backend.last() == (3, time, number)
        for commit in (
            Commit(3, 3, (), marks={"m": b"late"}),
            Commit(5, 3, (), marks={"m": b"early"}),
            Commit(4, 2, (), marks={"m": b"elsewhere"}),
        ):
            with pytest.raises(Behind) as refused:
                backend.commit(commit)
            assert (refused.value.head, refused.value.number) == (3, 3)
        assert backend.marks(["m"]) == {"m": b"3"}
        scribe.write("a")
        assert backend.last()[::2] == (4, 4)

    def test_reopening_keeps_numbers_marks_and_the_index(
        self, keeps: None, kind: Kind, path: Path, backend: Backend, scribe: Scribe
    ) -> None:
        scribe.write(marks={"first": b"1"})
        backend.close()
        backend = kind.open(path)
        assert backend.last() == (0, 0, 1) and backend.marks_from("", "", 9) == [("first", b"1")]
        scribe = Scribe(backend)
        scribe.write({"stream": "a-1", "tags": ("g",)}, "b", marks={"m": b"1", "first": None})
        scribe.write(marks={"m": b"2"})
        last = backend.last()
        backend.close()
        for _ in range(2):
            backend = kind.open(path)
            assert backend.last() == last and last[::2] == (2, 3)
            assert backend.marks(["m", "first"]) == {"m": b"2"}
            assert backend.names("tag", "", None, 9) == [("g", 1)]
            assert backend.matching([QueryItem(categories=["a", "b"])], 0, 2, 9).positions == [1, 2]
            assert list(backend.check()) == []
            backend.close()

    # --- everything together ---

    def test_it_finds_what_the_store_in_memory_and_a_look_at_every_record_find(
        self, kind: Kind, path: Path, backend: Backend
    ) -> None:
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        IndexMirror(random.Random(seed), kind, path, backend).run(steps=150)


def items_of(**names: list[str]) -> list[QueryItem]:
    """An item for each of these fields."""
    return [QueryItem(**{field: given}) for field, given in names.items()]  # type: ignore[arg-type]


class IndexMirror:
    """Random commits and questions on a backend and on its twin in memory, which must agree."""

    def __init__(self, rng: random.Random, kind: Kind, path: Path, backend: Backend) -> None:
        self.rng = rng
        self.kind = kind
        self.path = path
        self.backend = backend
        self.twin = MemoryBackend()
        self.twin._own_prefix = own_id_prefix(backend.store_id)
        self.scribe = Scribe(backend)
        self.marks = [f"{'é' * rng.randrange(3)}m{n}" for n in range(8)]

    def run(self, steps: int) -> None:
        steps_of: list[Callable[[], None]] = [self.commit, self.query, self.name, self.mark]
        for _ in range(steps):
            self.rng.choice(steps_of)()
            if self.kind.keeps and self.rng.random() < 0.05:
                self.reopen()
        assert read_all(self.backend) == read_all(self.twin)
        assert list(self.backend.check()) == []
        self.backend.close()

    def commit(self) -> None:
        rng = self.rng
        spread = rng.choice((1, 3, 99))  # a commit of few names, or of all
        events = [
            {
                "stream": rng.choice(STREAMS[:spread]),
                "type": rng.choice(TYPES[:spread]),
                "tags": tuple(rng.choices(TAGS[-spread:], k=rng.choice((0, 1, 2, 5)))),
                "data": rng.randbytes(rng.choice((0, 10, 10, 500, 5_000, 20_000))),
            }
            for _ in range(rng.choice((0, 1, 1, 2, 5, 40)))
        ]
        marks: dict[str, bytes | None] = {
            rng.choice(self.marks): rng.choice((None, b"", rng.randbytes(9)))
            for _ in range(rng.choice((0, 0, 1, 3)) if events else 2)
        }
        head, _, number = self.backend.last()
        commit = Commit(number + 1, head, self.scribe.records(events), marks=marks)
        self.backend.commit(commit)
        self.twin.commit(commit)
        assert self.backend.last() == self.twin.last()

    def query(self) -> None:
        rng, backend, twin = self.rng, self.backend, self.twin
        items = [self.item() for _ in range(rng.choice((1, 1, 2, 4)))]
        head = twin.last().position
        after, until = rng.randint(0, head + 2), rng.choice((MANY, rng.randint(0, head + 2)))
        backwards = rng.random() < 0.5
        expected = positions_of(backend, items, after, until)
        if backwards:
            expected.reverse()
        limit, seeks = rng.choice((1, 3, 20)), rng.choice((1, 10, MANY))
        assert walked(backend, items, backwards, after, until, limit, seeks) == expected
        assert walked(twin, items, backwards, after, until, limit, seeks) == expected
        asked = (after, min(until, head), limit, rng.choice((0, 5_000, MANY)), backwards)
        taken, reached = twin.read_matching(items, *asked)
        found, found_reached = backend.read_matching(items, *asked)
        if after < asked[1]:
            assert found == taken[: len(found)] and (found or not taken)
            assert (found, found_reached) == (taken, reached) or len(found) < len(taken)
        assert found or not taken

    def item(self) -> QueryItem:
        rng = self.rng
        pools: Mapping[str, list[str]] = {
            "types": [*TYPES, "none"],
            "tags": [*TAGS, "none"],
            "categories": [*map(category_of, STREAMS), "none"],
            "streams": [*STREAMS, "none"],
        }
        fields = rng.sample(sorted(pools), rng.choice((1, 1, 2, 3)))
        return QueryItem(
            **{  # type: ignore[arg-type]
                field: tuple(
                    rng.choices(
                        pools[field], k=rng.choice((1, 1, 2, 6) if field != "tags" else (1, 2))
                    )
                )
                for field in fields
            }
        )

    def name(self) -> None:
        rng = self.rng
        kind = rng.choice(NAME_KINDS)
        prefix = rng.choice(("", "", "a", "a\0", "ä", "order"))
        after = rng.choice((None, "", *TYPES, *TAGS))
        limit = rng.choice((0, 1, 3, MANY))
        assert self.backend.names(kind, prefix, after, limit) == self.twin.names(
            kind, prefix, after, limit
        )

    def mark(self) -> None:
        rng = self.rng
        names = rng.sample(self.marks, 4)
        assert self.backend.marks(names) == self.twin.marks(names)
        asked = (
            rng.choice(("", "é", "m", "x")),
            rng.choice(("", *self.marks)),
            rng.choice((0, 2, 99)),
        )
        assert self.backend.marks_from(*asked) == self.twin.marks_from(*asked)

    def reopen(self) -> None:
        self.backend.close()
        self.backend = self.scribe.backend = self.kind.open(self.path)
        assert self.backend.last() == self.twin.last()
