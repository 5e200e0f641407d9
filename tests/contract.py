"""What every backend promises, a test for each promise.

Subclass ``BackendContract`` beside a fixture ``kind`` that says how to open a backend, as
test_backends.py does, and ``IndexContract`` (index_contract.py), which has queries, names and marks.
Promises about damaged or foreign files are in test_backends.py too, since they need to know which files
there are.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rewind.backends import Backend, Commit
from rewind.backends.memory import MemoryBackend
from rewind.errors import Behind, StoreForeign
from rewind.events import AppendEvent, Record, decode_event, make_record, own_id, own_id_prefix

EPOCH_NS = 1_700_000_000_000_000_000
MANY = 1_000_000
TOTAL_BYTES_MAX = 64 * 1024 * 1024


class Kind(NamedTuple):
    """How to open a backend in a directory, and whether it keeps anything."""

    name: str
    open: Callable[..., Backend]  # a path, and the id of the store if it is to have a certain one
    keeps: bool = True


class Scribe:
    """Gives events their places and commits them, as the store above a backend does."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.prefix = own_id_prefix(backend.store_id)

    def records(self, events: list[dict[str, Any]], after: int | None = None) -> list[Record]:
        """Records of events given as their fields; those left out are made up.

        ``after``: another head than the backend's to plan them on.
        """
        head, time, _ = self.backend.last()
        head = head if after is None else after
        versions = self.backend.versions({event["stream"] for event in events})
        placed = []
        for position, event in enumerate(events, head + 1):
            fields = {"type": "Happened", "tags": (), "metadata": {}, "data": b"data", **event}
            id = fields.pop("id", None)
            stream = event["stream"]
            versions[stream] = versions.get(stream, 0) + 1
            time = max(time, EPOCH_NS) + 1
            placed.append(
                make_record(
                    AppendEvent(id, **fields),
                    position=position,
                    recorded_at_ns=time,
                    id=id or own_id(self.prefix, position),
                    version=versions[stream],
                )
            )
        return placed

    def write(
        self,
        *events: str | dict[str, Any],
        append_ids: list[tuple[bytes, int, int]] | None = None,
        marks: dict[str, bytes | None] | None = None,
    ) -> list[bytes]:
        """One commit; an event may be just the name of its stream. The exact bytes stored."""
        placed = self.records(
            [{"stream": event} if isinstance(event, str) else event for event in events]
        )
        head, _, number = self.backend.last()
        self.backend.commit(Commit(number + 1, head, placed, append_ids or [], marks or {}))
        return [record.encoded for record in placed]


def read(backend: Backend, after: int, until: int, limit: int, bytes_max: int) -> list[bytes]:
    """What ``read`` returns, which must be what ``chunk`` does."""
    records = backend.read(after, until, limit, bytes_max)
    count, pieces = backend.chunk(after, until, limit, bytes_max)
    assert (count, b"".join(pieces)) == (len(records), b"".join(records))
    return records


def read_all(backend: Backend) -> list[bytes]:
    return read(backend, 0, MANY, MANY, TOTAL_BYTES_MAX)


def read_whole_stream(backend: Backend, stream: str) -> list[bytes]:
    return backend.read_stream(stream, 0, MANY, MANY, TOTAL_BYTES_MAX)


class BackendFixtures:
    """``backend`` is an empty, open one; ``scribe`` writes to it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "store"

    @pytest.fixture
    def backend(self, kind: Kind, path: Path) -> Iterator[Backend]:
        opened = kind.open(path)
        yield opened
        opened.close()

    @pytest.fixture
    def scribe(self, backend: Backend) -> Scribe:
        return Scribe(backend)

    @pytest.fixture
    def keeps(self, kind: Kind) -> None:
        if not kind.keeps:
            pytest.skip("it keeps nothing")


class BackendContract(BackendFixtures):
    """The promises."""

    # --- an empty store ---

    def test_an_empty_store_has_no_last_event(self, backend: Backend) -> None:
        assert backend.last() == (0, 0, 0)

    def test_an_empty_store_reads_as_empty(self, backend: Backend) -> None:
        assert read_all(backend) == []
        assert backend.read(0, MANY, 10, MANY, backwards=True) == []
        assert read_whole_stream(backend, "a") == []
        assert backend.streams("", "", 10) == []
        assert backend.versions(["a"]).get("a", 0) == 0
        assert list(backend.check()) == []

    # --- commit ---

    def test_last_is_position_and_time_of_the_last_event(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        scribe.write("a", "b")
        scribe.write("a")
        assert backend.last()[:2] == (3, EPOCH_NS + 3)

    def test_records_come_back_byte_for_byte(self, backend: Backend, scribe: Scribe) -> None:
        written = scribe.write(
            {"stream": "a", "data": bytes(range(256))},
            {"stream": "ä 東京", "type": "", "data": b""},
            {"stream": "a", "tags": ("x", "y"), "metadata": {"k": [1, None, 2.5, {"é": True}]}},
            {"stream": "s" * 255, "id": uuid.uuid4().bytes, "metadata": {"low": -(2**63)}},
        )
        assert read_all(backend) == written
        assert read_whole_stream(backend, "a") == [written[0], written[2]]
        assert read_whole_stream(backend, "ä 東京") == [written[1]]
        assert read_whole_stream(backend, "s" * 255) == [written[3]]

    def test_elements_after_data_are_kept(self, backend: Backend, scribe: Scribe) -> None:
        (record,) = scribe.records([{"stream": "a"}])
        longer = bytes((record.encoded[0] + 1,)) + record.encoded[1:] + b"\xa5later"
        backend.commit(Commit(1, 0, [Record(record.event, longer)]))
        assert read_all(backend) == read_whole_stream(backend, "a") == [longer]

    def test_commit_behind_is_refused(self, backend: Backend, scribe: Scribe) -> None:
        written = scribe.write("a", "b")
        for after in (0, 1, 3):
            records = scribe.records([{"stream": "c"}], after)
            with pytest.raises(Behind) as refused:
                backend.commit(Commit(2, after, records, [(b"i" * 16, after + 1, after + 1)]))
            assert (refused.value.head, refused.value.number) == (2, 1)
        for number in (1, 3):
            with pytest.raises(Behind) as refused:
                backend.commit(Commit(number, 2, scribe.records([{"stream": "c"}])))
            assert (refused.value.head, refused.value.number) == (2, 1)
        assert read_all(backend) == written
        assert backend.versions(["c"]).get("c", 0) == 0
        assert backend.appends([b"i" * 16]) == {}

    def test_settling_a_commit_changes_nothing_that_is_read(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        backend.settle()
        written = scribe.write("a", "b", append_ids=[(b"i" * 16, 1, 2)])
        for settle in (lambda: None, backend.settle, backend.settle):
            settle()
            assert read_all(backend) == written
            assert backend.versions(["a", "b"]) == {"a": 1, "b": 1}
            assert backend.appends([b"i" * 16]) == {b"i" * 16: (1, 2)}

    def test_a_refused_commit_can_be_planned_again(self, backend: Backend, scribe: Scribe) -> None:
        planned = scribe.records([{"stream": "a"}])
        scribe.write("b")
        with pytest.raises(Behind):
            backend.commit(Commit(1, 0, planned))
        scribe.write("a")
        assert backend.versions(["a", "b"]) == {"a": 1, "b": 1}

    def test_streams_may_alternate_within_a_commit(self, backend: Backend, scribe: Scribe) -> None:
        names = ["a", "b", "a", "a", "c", "b", "a"]
        written = scribe.write(*names)
        for name in "abc":
            of_stream = [record for record, its in zip(written, names, strict=True) if its == name]
            assert read_whole_stream(backend, name) == of_stream
        assert backend.versions("abc") == {"a": 4, "b": 2, "c": 1}

    @pytest.mark.parametrize("size", [16_000, 17_000, 300_000, 4 * 1024 * 1024])
    def test_large_records(self, backend: Backend, scribe: Scribe, size: int) -> None:
        data = random.Random(size).randbytes(size)
        written = scribe.write("a", {"stream": "b", "data": data}, "a")
        assert read_all(backend) == written
        assert read(backend, 1, 2, 1, 1) == [written[1]]
        assert read_whole_stream(backend, "b") == [written[1]]

    def test_a_commit_of_many_events(self, backend: Backend, scribe: Scribe) -> None:
        written = scribe.write(*(f"s{n % 7}" for n in range(4_096)))
        assert read_all(backend) == written
        assert read_whole_stream(backend, "s3") == written[3::7]
        assert list(backend.check()) == []

    # --- reading by position ---

    def test_a_range_excludes_after_and_includes_until(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        written = [record for _ in range(4) for record in scribe.write("a", "b", "a")]
        for after in range(14):
            for until in range(14):
                asked = (after, until, MANY, MANY)
                assert read(backend, *asked) == written[after:until]
                assert backend.read(*asked, backwards=True) == written[after:until][::-1]

    def test_reads_backwards_reverse_the_order(self, backend: Backend, scribe: Scribe) -> None:
        written = scribe.write("a", "b", "a") + scribe.write("b", "b")
        assert backend.read(0, MANY, MANY, MANY, backwards=True) == written[::-1]
        assert backend.read(0, MANY, 2, MANY, backwards=True) == written[:-3:-1]

    def test_limit_bounds_the_records(self, backend: Backend, scribe: Scribe) -> None:
        written = scribe.write("a", "a", "a")
        for limit in range(5):
            assert read(backend, 0, MANY, limit, MANY) == written[:limit]
            assert backend.read_stream("a", 0, MANY, limit, MANY) == written[:limit]
        assert backend.read(0, MANY, 0, MANY, backwards=True) == []

    def test_bytes_bound_the_records_after_the_first(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        written = scribe.write(*({"stream": "a", "data": b"x" * 100} for _ in range(4)))
        size = len(written[0])
        for bytes_max, count in ((0, 1), (1, 1), (size, 1), (2 * size - 1, 1), (2 * size, 2)):
            assert read(backend, 0, MANY, MANY, bytes_max) == written[:count]
            assert backend.read_stream("a", 0, MANY, MANY, bytes_max) == written[:count]
            down = backend.read(0, MANY, MANY, bytes_max, backwards=True)
            assert down == written[::-1][:count]

    def test_reading_goes_on_from_where_it_stopped(self, backend: Backend, scribe: Scribe) -> None:
        written = [record for n in range(9) for record in scribe.write(*["a", "b"] * n, "c")]
        pages: list[bytes] = []
        while page := read(backend, len(pages), MANY, 7, MANY):
            pages += page
        assert pages == written

    # --- reading a stream ---

    def test_a_stream_is_read_by_its_versions(self, backend: Backend, scribe: Scribe) -> None:
        names = ["a", "a", "b", "a", "b", "b", "b", "a", "a", "a"]
        written = scribe.write(*names) + scribe.write(*names)
        of_a = [record for record, its in zip(written, names * 2, strict=True) if its == "a"]
        for after in range(14):
            for until in range(14):
                asked = ("a", after, until, MANY, MANY)
                assert backend.read_stream(*asked) == of_a[after:until]
                assert backend.read_stream(*asked, backwards=True) == of_a[after:until][::-1]

    def test_a_stream_that_does_not_exist_reads_as_empty(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        scribe.write("order-1", "order-10")
        for name in ("order-", "order-11", "order", "p", ""):
            assert read_whole_stream(backend, name) == []

    def test_a_name_that_begins_another_is_its_own_stream(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        written = scribe.write("order-1", "order-10", "order-1", "order-1 ")
        assert read_whole_stream(backend, "order-1") == [written[0], written[2]]
        assert read_whole_stream(backend, "order-10") == [written[1]]
        assert read_whole_stream(backend, "order-1 ") == [written[3]]

    # --- lookups ---

    def test_a_version_is_the_length_of_the_stream(self, backend: Backend, scribe: Scribe) -> None:
        scribe.write("a", "b", "a")
        scribe.write("a")
        found = backend.versions(["a", "b", "c"])
        assert (found["a"], found["b"], found.get("c", 0)) == (3, 1, 0)

    def test_positions_of_client_chosen_ids(self, backend: Backend, scribe: Scribe) -> None:
        first, second, unknown = (uuid.uuid4().bytes for _ in range(3))
        scribe.write({"stream": "a", "id": first}, "a", {"stream": "b", "id": second})
        assert backend.positions([second, unknown, first]) == {first: 1, second: 3}
        assert backend.positions([]) == {}

    def test_ids_of_rewinds_own_making_are_not_indexed(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        scribe.write("a")
        assert backend.positions([own_id(scribe.prefix, 1)]) == {}

    def test_append_ids_lead_to_their_positions(self, backend: Backend, scribe: Scribe) -> None:
        one, two, unknown = (bytes([n]) * 16 for n in range(3))
        scribe.write("a", "b", "a", append_ids=[(one, 1, 1), (two, 2, 3)])
        assert backend.appends([two, unknown, one]) == {one: (1, 1), two: (2, 3)}

    def test_an_append_id_may_equal_an_event_id(self, backend: Backend, scribe: Scribe) -> None:
        id = uuid.uuid4().bytes
        scribe.write("a", {"stream": "a", "id": id}, append_ids=[(id, 1, 2)])
        assert backend.positions([id]) == {id: 2}
        assert backend.appends([id]) == {id: (1, 2)}

    def test_append_ids_of_a_range_are_those_wholly_in_it(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        one, two, three = (bytes([n]) * 16 for n in range(3))
        scribe.write("a", "b", "a", append_ids=[(three, 1, 1), (two, 2, 3)])
        scribe.write("a")
        scribe.write("a", "a", append_ids=[(one, 5, 6)])
        rows = [(three, 1, 1), (two, 2, 3), (one, 5, 6)]
        assert backend.append_ids(0, 6) == backend.append_ids(0, MANY) == rows
        assert backend.append_ids(0, 2) == rows[:1]
        assert backend.append_ids(2, 6) == rows[2:]
        for after, until in ((0, 0), (2, 3), (3, 5), (4, 5), (5, 6), (6, MANY), (6, 0)):
            assert backend.append_ids(after, until) == []

    def test_two_ids_of_the_same_events_are_both_of_the_range(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        rows = [(b"a" * 16, 1, 2), (b"b" * 16, 1, 2), (b"c" * 16, 3, 3)]
        scribe.write("s", "s", "s", append_ids=[rows[1], rows[0], rows[2]])
        assert backend.append_ids(0, 3) == rows
        assert backend.append_ids(0, 2) == rows[:2]
        assert backend.append_ids(1, 3) == rows[2:]

    def test_append_ids_of_random_ranges_are_as_committed(
        self, kind: Kind, path: Path, backend: Backend, scribe: Scribe
    ) -> None:
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        rng = random.Random(seed)
        committed: list[tuple[bytes, int, int]] = []
        for _ in range(40):
            rows = random_append_ids(rng, backend.last()[0])
            last = rows[-1][2]
            size = rng.choice((0, 0, 100, 9_000))  # so that a commit is one block, or several
            events = [{"stream": "s", "data": b"x" * size}] * (last - backend.last()[0])
            kept = [row for row in rows if rng.random() < 0.8]
            scribe.write(*events, append_ids=kept)
            committed += kept
        assert_append_ids(rng, backend, committed)
        if kind.keeps:
            backend.close()
            again = kind.open(path)
            assert_append_ids(rng, again, committed)
            again.close()

    # --- names of streams ---

    def test_streams_are_listed_by_name_in_utf8_order(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        names = ["b", "a", "a1", "a 1", "Z", "é", "z", "\ufffd", "\U0001f600", "a" * 255]
        scribe.write(*names, "b")
        found = backend.streams("", "", 100)
        assert [name for name, _ in found] == sorted(names, key=str.encode)
        assert dict(found) == {**dict.fromkeys(names, 1), "b": 2}

    def test_streams_with_a_prefix(self, backend: Backend, scribe: Scribe) -> None:
        scribe.write("order-1", "order", "order-", "order.", "orders", "é1", "é", "e")
        assert backend.streams("order-", "", 9) == [("order-", 1), ("order-1", 1)]
        assert backend.streams("é", "", 9) == [("é", 1), ("é1", 1)]
        assert backend.streams("x", "", 9) == []

    def test_streams_after_a_name(self, backend: Backend, scribe: Scribe) -> None:
        scribe.write("a", "ab", "b", "ba", "c")
        assert [name for name, _ in backend.streams("", "ab", 9)] == ["b", "ba", "c"]
        assert [name for name, _ in backend.streams("", "aa", 9)] == ["ab", "b", "ba", "c"]
        assert [name for name, _ in backend.streams("b", "b", 9)] == ["ba"]
        assert [name for name, _ in backend.streams("b", "a", 9)] == ["b", "ba"]
        assert backend.streams("a", "b", 9) == []
        assert backend.streams("", "c", 9) == []

    def test_streams_are_paged_by_limit(self, backend: Backend, scribe: Scribe) -> None:
        names = sorted(f"s{n}" for n in range(50))
        scribe.write(*names)
        assert backend.streams("", "", 0) == []
        found: list[str] = []
        while page := backend.streams("s", found[-1] if found else "", 7):
            assert len(page) <= 7
            found += [name for name, _ in page]
        assert found == names

    # --- durability ---

    def test_reopening_keeps_everything(
        self, keeps: None, kind: Kind, path: Path, backend: Backend, scribe: Scribe
    ) -> None:
        id = uuid.uuid4().bytes
        written = scribe.write("a", {"stream": "b", "id": id}, append_ids=[(b"i" * 16, 1, 2)])
        written += scribe.write({"stream": "a", "data": b"x" * 40_000}, "c")
        last, store_id, streams = backend.last(), backend.store_id, backend.streams("", "", 9)
        backend.close()
        again = kind.open(path)
        assert (again.last(), again.store_id) == (last, store_id)
        assert read_all(again) == written
        assert again.streams("", "", 9) == streams == [("a", 2), ("b", 1), ("c", 1)]
        assert again.positions([id]) == {id: 2}
        assert again.appends([b"i" * 16]) == {b"i" * 16: (1, 2)}
        assert list(again.check()) == []
        again.close()

    def test_reopening_an_empty_store_keeps_its_id(
        self, keeps: None, kind: Kind, path: Path, backend: Backend
    ) -> None:
        store_id = backend.store_id
        backend.close()
        again = kind.open(path)
        assert (again.store_id, again.last()) == (store_id, (0, 0, 0))
        again.close()

    def test_every_store_has_an_id_of_its_own(
        self, kind: Kind, path: Path, backend: Backend
    ) -> None:
        other = kind.open(path.with_name("other"))
        assert other.store_id != backend.store_id
        other.close()

    def test_a_store_is_created_with_the_id_asked_for(self, kind: Kind, path: Path) -> None:
        store_id = uuid.uuid4()
        created = kind.open(path, store_id)
        assert created.store_id == store_id
        (written,) = Scribe(created).write("a")
        assert decode_event(written).id == uuid.UUID(bytes=own_id(own_id_prefix(store_id), 1))
        created.close()
        if kind.keeps:
            for asked in (store_id, None):
                again = kind.open(path, asked)
                assert (again.store_id, read_all(again)) == (store_id, [written])
                again.close()

    def test_a_store_of_another_id_is_foreign(
        self, keeps: None, kind: Kind, path: Path, backend: Backend, scribe: Scribe
    ) -> None:
        written = scribe.write("a")
        backend.close()
        other = uuid.uuid4()
        with pytest.raises(StoreForeign, match=f"{backend.store_id}, not {other}: give"):
            kind.open(path, other)
        again = kind.open(path, backend.store_id)
        assert read_all(again) == written
        again.close()

    # --- everything together ---

    def test_it_does_what_the_store_in_memory_does(
        self, kind: Kind, path: Path, backend: Backend
    ) -> None:
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        Mirror(random.Random(seed), kind, path, backend).run(steps=150)

    def test_check_finds_nothing_wrong_with_a_good_store(
        self, backend: Backend, scribe: Scribe
    ) -> None:
        for n in range(20):
            scribe.write(f"s{n % 3}", {"stream": "ids", "id": uuid.uuid4().bytes}, "many", "many")
        assert list(backend.check()) == []


def random_append_ids(rng: random.Random, head: int) -> list[tuple[bytes, int, int]]:
    """Ids of the appends of one commit behind a head; some have two."""
    rows = []
    for _ in range(rng.choice((1, 1, 2, 8))):
        first, head = head + 1, head + rng.choice((1, 1, 1, 2, 5, 12))
        rows += [(rng.randbytes(16), first, head) for _ in range(rng.choice((1, 1, 1, 2)))]
    return rows


def assert_append_ids(
    rng: random.Random, backend: Backend, committed: list[tuple[bytes, int, int]]
) -> None:
    """Any range gives what a look at all that was committed gives."""
    head = backend.last()[0]
    in_order = sorted(committed, key=lambda row: (row[1], row[2], row[0]))
    for _ in range(200):
        after = rng.randint(0, head + 2)
        until = rng.choice((after + rng.randint(0, 20), rng.randint(0, head + 2), MANY))
        expected = [row for row in in_order if after < row[1] and row[2] <= until]
        assert backend.append_ids(after, until) == expected


class Mirror:
    """Random operations on a backend and on its twin in memory, which must agree."""

    def __init__(self, rng: random.Random, kind: Kind, path: Path, backend: Backend) -> None:
        self.rng = rng
        self.kind = kind
        self.path = path
        self.backend = backend
        self.twin = MemoryBackend()
        self.twin._own_prefix = own_id_prefix(backend.store_id)
        self.scribe = Scribe(backend)
        self.names = [f"{'é' * rng.randrange(3)}{n % 4}-{n}" for n in range(12)]
        self.ids = [rng.randbytes(16) for _ in range(5)]
        self.append_ids = [rng.randbytes(16) for _ in range(5)]

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.rng.choice((self.commit, self.read, self.read_stream, self.look_up))()
            if self.kind.keeps and self.rng.random() < 0.03:
                self.reopen()
        assert read_all(self.backend) == read_all(self.twin)
        assert list(self.backend.check()) == []
        self.backend.close()

    def commit(self) -> None:
        rng = self.rng
        events = []
        for _ in range(rng.choice((1, 1, 2, 5, 40))):
            id = rng.randbytes(16) if rng.random() < 0.3 else None
            if id:
                self.ids.append(id)
            size = rng.choice((0, 10, 10, 500, 5_000, 20_000))
            stream = rng.choice(self.names)
            events.append({"stream": stream, "id": id, "data": rng.randbytes(size)})
        records = self.scribe.records(events)
        head, _, number = self.backend.last()
        rows = []
        if rng.random() < 0.5:
            cut = rng.randint(1, len(records))
            ids = rng.randbytes(16), rng.randbytes(16)
            rows = [(ids[0], head + 1, head + cut)]
            if cut < len(records):
                rows.append((ids[1], head + cut + 1, head + len(records)))
            self.append_ids += ids
        commit = Commit(number + 1, head, records, rows)
        self.backend.commit(commit)
        self.twin.commit(commit)

    def read(self) -> None:
        asked = self.bounds(self.twin.last()[0])
        assert self.backend.read(*asked) == self.twin.read(*asked)
        read(self.backend, *asked[:-1])

    def read_stream(self) -> None:
        stream = self.rng.choice([*self.names, "none"])
        asked = self.bounds(self.twin.versions([stream]).get(stream, 0))
        assert self.backend.read_stream(stream, *asked) == self.twin.read_stream(stream, *asked)

    def bounds(self, head: int) -> tuple[int, int, int, int, bool]:
        rng = self.rng
        limit = rng.choice((0, 1, 3, 20, MANY))
        bytes_max = rng.choice((0, 100, 20_000, MANY))
        after, until = rng.randint(0, head + 2), rng.randint(0, head + 2)
        return after, until, limit, bytes_max, rng.random() < 0.5

    def look_up(self) -> None:
        rng, backend, twin = self.rng, self.backend, self.twin
        assert backend.last() == twin.last()
        ids = rng.sample(self.ids, 3)
        assert backend.positions(ids) == twin.positions(ids)
        ids = rng.sample(self.append_ids, 3)
        assert backend.appends(ids) == twin.appends(ids)
        after = rng.randint(0, twin.last()[0])
        until = after + rng.choice((1, 20, MANY))
        assert backend.append_ids(after, until) == twin.append_ids(after, until)
        found = backend.versions(self.names)
        assert {name: found[name] for name in found if found[name]} == twin.versions(self.names)
        asked = rng.choice(("", "é", "1", "éé2")), rng.choice(("", *self.names)), rng.randrange(9)
        assert backend.streams(*asked) == twin.streams(*asked)

    def reopen(self) -> None:
        self.backend.close()
        self.backend = self.scribe.backend = self.kind.open(self.path)
