"""The log backend: torn ends, damage in the middle, segments, and its derived index."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from contract import Scribe, read_all, read_whole_stream

from rewind.backends import Commit, blocks, default_scheme
from rewind.backends.directory import Directory
from rewind.backends.log import backend as log
from rewind.backends.log import segments
from rewind.backends.log.packets import End, StoredCommit
from rewind.errors import StoreDamaged, StoreFailed

ENGINES = [
    pytest.param(
        "leveldb",
        marks=pytest.mark.skipif(default_scheme() != "leveldb", reason="needs plyvel"),
    ),
    "sqlite",
]


def open_log(path: Path, index: str = "sqlite") -> log.LogBackend:
    directory = Directory(path, "log", log.LogBackend.format_version)
    try:
        return log.LogBackend(directory, index)
    except BaseException:
        directory.close()
        raise


class Sample(NamedTuple):
    """A closed store. ``ends``: the size of its last segment after each commit."""

    path: Path
    store_id: UUID
    commits: list[list[bytes]]
    ends: list[int]

    def upto(self, count: int) -> list[bytes]:
        return [record for commit in self.commits[:count] for record in commit]

    def segments(self) -> list[Path]:
        return sorted((self.path / "segments").iterdir())

    def without_index(self) -> None:
        for index in self.path.glob("index-*"):
            shutil.rmtree(index)


def make_sample(path: Path, commits: int = 6, index: str = "sqlite") -> Sample:
    """Commits of three events, each with an append id."""
    store = open_log(path, index)
    scribe = Scribe(store)
    written, ends = [], []
    for n in range(commits):
        head = store.last().position
        events = [
            {"stream": f"s{n % 2}", "data": b"x" * 40},
            {"stream": "b", "id": bytes([n]) * 16},
            {"stream": "b", "data": b"y" * 90},
        ]
        append_id = (bytes([n]) * 16, head + 1, head + 3)
        written.append(scribe.write(*events, append_ids=[append_id]))
        ends.append(store._segments.end.offset)
    store.close()
    return Sample(path, store.store_id, written, ends)


@pytest.fixture
def small_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet for nearly every event, so that a commit is several."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES_MAX", 120)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment for every commit or two."""
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 600)


def listing(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (path / "segments").iterdir()}


def flip(file: Path, offset: int) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def read_and_close(path: Path, index: str = "sqlite") -> list[bytes]:
    store = open_log(path, index)
    try:
        assert list(store.check()) == []
        return read_all(store)
    finally:
        store.close()


# --- torn ends ---


def torn(sample: Sample, offset: int, tail: bytes) -> Path:
    """A copy whose last segment ends at ``offset``, with ``tail`` behind; without an index."""
    copy = sample.path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sample.path, copy, ignore=shutil.ignore_patterns("index-*"))
    (segment,) = (copy / "segments").iterdir()
    segment.write_bytes(segment.read_bytes()[:offset] + tail)
    return copy


def test_a_cut_commit_is_wholly_absent_wherever_it_was_cut(
    small_packets: None, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "store", commits=3)
    (segment,) = sample.segments()
    content = segment.read_bytes()
    for offset in range(sample.ends[1], len(content.rstrip(b"\0"))):
        # Cut there, or zeros from there on, as a file system may leave it.
        for tail in (b"", bytes(sample.ends[2] - offset)):
            segment.write_bytes(content[:offset] + tail)
            assert settle(sample) == sample.upto(2)
            assert segment.read_bytes() == content[: sample.ends[1]]


def settle(sample: Sample) -> list[bytes]:
    """The records that are left by what opening does with the segments."""
    return [record for commit in settled(sample.path, sample.store_id) for record in commit.records]


def settled(path: Path, store_id: UUID) -> list[StoredCommit]:
    """The commits that are left by what opening does with the segments, without making an index."""
    opened = segments.Segments(path / "segments", store_id, create=False)
    try:
        found = list(opened.commits(segments.START))
        opened.make_ready(found[-1].end if found else segments.START)
    finally:
        opened.close()
    return found


@pytest.mark.parametrize("cut", [0, 1, 52, 60, -1])
def test_a_store_with_a_torn_end_goes_on_from_its_last_whole_commit(
    cut: int, small_packets: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample(tmp_path / "store", commits=3)
    offset = sample.ends[1] + cut if cut >= 0 else sample.ends[2] - 1
    copy = torn(sample, offset, b"")
    with caplog.at_level(logging.WARNING, "rewind"):
        store = open_log(copy)
    if offset > sample.ends[1]:
        lost = sample.segments()[0].read_bytes()[sample.ends[1] : offset].rstrip(b"\0")
        assert f"cut off {len(lost)} bytes" in caplog.text
    assert read_all(store) == sample.upto(2)
    assert store.appends([b"\x01" * 16, b"\x02" * 16]) == {b"\x01" * 16: (4, 6)}
    assert store.positions([b"\x02" * 16]) == {}
    assert store.versions(["b"]) == {"b": 4}
    again = Scribe(store).write("b", "s0")
    store.close()
    assert read_and_close(copy) == sample.upto(2) + again


# --- zeros ahead ---


def crashed(store: log.LogBackend, path: Path) -> Path:
    """What a crash of this store would leave: its files as they are now."""
    shutil.copytree(store.path, path)
    return path


def test_a_crash_leaves_zeros_that_the_next_commits_are_written_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_log(tmp_path / "store")
    written = Scribe(store).write("a", "b")
    copy = crashed(store, tmp_path / "copy")
    store.close()
    (segment,) = (copy / "segments").iterdir()
    size = segment.stat().st_size
    assert size > store._segments.end.offset
    with caplog.at_level(logging.WARNING, "rewind"):
        store = open_log(copy)
    assert "cut off" not in caplog.text
    written += Scribe(store).write("a")
    assert segment.stat().st_size == size
    assert read_all(store) == written
    store.close()
    assert segment.stat().st_size == store._segments.end.offset
    assert read_and_close(copy) == written


@pytest.mark.parametrize("gap", [0, 1, 4_096])
def test_what_stands_in_the_zeros_is_an_unfinished_commit(
    gap: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_log(tmp_path / "store")
    written = Scribe(store).write("a", "b")
    end = store._segments.end.offset
    copy = crashed(store, tmp_path / "copy")
    store.close()
    (segment,) = (copy / "segments").iterdir()
    content = bytearray(segment.read_bytes())
    content[end + gap] = 7
    segment.write_bytes(content)
    with caplog.at_level(logging.WARNING, "rewind"):
        store = open_log(copy)
    assert f"cut off {gap + 1} bytes" in caplog.text
    assert segment.stat().st_size == end
    written += Scribe(store).write("a")
    store.close()
    assert read_and_close(copy) == written


def test_only_the_last_segment_has_zeros_and_only_behind_a_small_commit(
    small_segments: None, tmp_path: Path
) -> None:
    store = open_log(tmp_path / "store")
    ends: dict[str, int] = {}

    def write(size: int) -> None:
        Scribe(store).write({"stream": "s", "data": b"x" * size})
        end = store._segments.end
        ends[f"{end.segment:020}.log"] = end.offset

    for _ in range(4):
        write(600)
    sizes = {name: len(content) for name, content in listing(store.path).items()}
    last = max(sizes)
    assert sizes == {**ends, last: ends[last] + segments.ZEROS_BYTES}
    write(segments.SMALL_COMMIT_BYTES)
    assert {name: len(content) for name, content in listing(store.path).items()} == ends
    store.close()


@pytest.mark.parametrize("index", ENGINES)
def test_the_index_is_written_when_a_commit_is_settled(index: str, tmp_path: Path) -> None:
    store = open_log(tmp_path / "store", index)
    written = Scribe(store).write("a")
    assert store._keys._engine.get(b"na") is None
    before = crashed(store, tmp_path / "before")
    store.settle()
    assert store._keys._engine.get(b"na") is not None
    store.close()
    assert read_and_close(before, index) == written


def test_an_end_torn_after_the_index_was_written_is_damage(tmp_path: Path) -> None:
    sample = make_sample(
        tmp_path / "store", commits=3
    )  # the index is written when the segments are synced
    os.truncate(sample.segments()[0], sample.ends[2] - 1)
    with pytest.raises(StoreDamaged, match=r"commit 3, at position 9, but .* ends before it"):
        open_log(sample.path)
    assert sample.segments()[0].stat().st_size == sample.ends[2] - 1


def test_a_torn_commit_may_lack_its_beginning(small_packets: None, tmp_path: Path) -> None:
    # Pages reach the disk in any order: the last packet can be there without the first.
    sample = make_sample(tmp_path / "store", commits=3)
    content = sample.segments()[0].read_bytes()
    copy = torn(sample, sample.ends[1], bytes(60) + content[sample.ends[1] + 60 :])
    assert read_and_close(copy) == sample.upto(2)


def test_data_that_looks_like_a_packet_is_not_taken_for_one(tmp_path: Path) -> None:
    # A client that sends a packet of another segment, or of this very kind, gains nothing.
    sample = make_sample(tmp_path / "other", commits=3)
    packet = sample.segments()[0].read_bytes()[sample.ends[1] :]
    store = open_log(tmp_path / "store")
    first = Scribe(store).write("a")
    end = store._segments.end.offset
    Scribe(store).write({"stream": "a", "data": packet})
    store.close()
    (segment,) = (tmp_path / "store" / "segments").iterdir()
    flip(segment, end + 20)
    shutil.rmtree(tmp_path / "store" / "index-sqlite")
    assert read_and_close(tmp_path / "store") == first


def test_an_empty_store_with_a_torn_first_commit_is_empty(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store", commits=1)
    copy = torn(sample, segments.SEGMENT_HEADER_BYTES + 10, b"")
    assert read_and_close(copy) == []


@pytest.mark.parametrize("size", [0, 1, 47])
def test_a_segment_torn_while_it_was_begun_is_begun_again(
    size: int, small_segments: None, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "store")
    header = sample.segments()[0].read_bytes()[:size]
    (sample.path / "segments" / f"{19:020}.log").write_bytes(header)
    store = open_log(sample.path)
    assert read_all(store) == sample.upto(6)
    again = Scribe(store).write("a")
    store.close()
    assert read_and_close(sample.path) == sample.upto(6) + again


# --- damage ---


def test_damage_in_front_of_a_later_commit_is_refused(small_packets: None, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store", commits=4)
    (segment,) = sample.segments()
    content = segment.read_bytes()
    for offset in range(sample.ends[0], sample.ends[2]):
        flip(segment, offset)
        before = segment.read_bytes()
        with pytest.raises(StoreDamaged) as damage:
            settle(sample)
        start = sample.ends[0] if offset < sample.ends[1] else sample.ends[1]
        assert f"{segment} is damaged at offset {start}" in str(damage.value)
        assert segment.read_bytes() == before
        segment.write_bytes(content)


@pytest.mark.parametrize("index", ENGINES)
def test_a_damaged_store_does_not_open_without_its_index(index: str, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    sample.without_index()
    flip(sample.segments()[0], sample.ends[2] + 30)
    before = listing(sample.path)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=f"is damaged at offset {sample.ends[2]}: .* later"):
            open_log(sample.path, index)
    assert listing(sample.path) == before


def test_damage_the_index_knows_to_be_acknowledged_is_never_cut_off(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store")
    flip(sample.segments()[0], sample.ends[-1] - 60)
    before = listing(sample.path)
    with pytest.raises(StoreDamaged):
        open_log(sample.path)
    assert listing(sample.path) == before


def test_damage_under_the_index_is_found_when_read(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store")
    flip(sample.segments()[0], sample.ends[2] + 100)
    store = open_log(sample.path)
    assert store.read(0, 9, 99, 9999) == sample.upto(3)
    with pytest.raises(StoreDamaged, match=r"0001\.log is damaged at offset"):
        store.read(9, 10, 9, 999)
    assert any(f"offset {sample.ends[2]}" in line for line in store.check())
    store.close()


def test_damaged_append_ids_are_found_by_check(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store")
    flip(sample.segments()[0], sample.ends[2] - 20)
    store = open_log(sample.path)
    assert list(store.check())
    store.close()


def test_append_ids_of_a_damaged_commit_are_damage(small_packets: None, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store")
    ids = [(bytes([n]) * 16, 3 * n + 1, 3 * n + 3) for n in range(6)]
    (segment,) = sample.segments()
    content = segment.read_bytes()
    for offset in range(sample.ends[2], sample.ends[3]):
        flip(segment, offset)
        store = open_log(sample.path)
        assert store.append_ids(0, 9) == ids[:3]
        assert store.append_ids(12, 18) == ids[4:]
        for asked in ((8, 10), (9, 12), (10, 12), (11, 18)):
            with pytest.raises(StoreDamaged):
                store.append_ids(*asked)
        store.close()
        segment.write_bytes(content)


# --- segments ---


def test_segments_are_named_by_their_first_position(small_segments: None, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store")
    firsts = [int(file.stem) for file in sample.segments()]
    assert len(firsts) > 2
    assert [file.name for file in sample.segments()] == [f"{first:020}.log" for first in firsts]
    assert read_and_close(sample.path) == sample.upto(6)


@pytest.mark.parametrize("index", ENGINES)
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("indexed", [True, False])
def test_a_missing_segment_is_damage(
    index: str, which: int, indexed: bool, small_segments: None, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    sample.segments()[which].unlink()
    if not indexed:
        sample.without_index()
    before = listing(sample.path)
    with pytest.raises(StoreDamaged, match="missing"):
        open_log(sample.path, index)
    assert listing(sample.path) == before


@pytest.mark.parametrize("change", ["cut", "longer", "empty"])
def test_a_segment_in_the_middle_must_end_where_the_next_begins(
    change: str, small_segments: None, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "store")
    sample.without_index()
    segment = sample.segments()[1]
    content = segment.read_bytes()
    segment.write_bytes({"cut": content[:-1], "longer": content + b"\0", "empty": b""}[change])
    before = listing(sample.path)
    with pytest.raises(StoreDamaged, match=str(segment)):
        open_log(sample.path)
    assert listing(sample.path) == before


@pytest.mark.parametrize("indexed", [True, False])
def test_a_segment_of_another_store_is_damage(
    indexed: bool, small_segments: None, tmp_path: Path
) -> None:
    sample, other = make_sample(tmp_path / "store"), make_sample(tmp_path / "other")
    shutil.copy(other.segments()[1], sample.segments()[1])
    if not indexed:
        sample.without_index()
        with pytest.raises(StoreDamaged, match="another segment or store"):
            open_log(sample.path)
        return
    store = open_log(sample.path)
    with pytest.raises(StoreDamaged, match="another segment or store"):
        read_all(store)
    assert list(store.check())
    store.close()


def test_few_files_are_held_open(
    small_segments: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "OPEN_FILES_MAX", 2)
    sample = make_sample(tmp_path / "store", commits=12)
    assert len(sample.segments()) > 4
    store = open_log(sample.path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert read_all(store) == sample.upto(12)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    store.close()


# --- the index ---


@pytest.mark.parametrize("index", ENGINES)
def test_a_missing_index_is_made_again(
    index: str, small_segments: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    sample.without_index()
    with caplog.at_level(logging.WARNING, "rewind"):
        assert read_and_close(sample.path, index) == sample.upto(6)
    assert f"index-{index} cannot be used and is built from the segments" in caplog.text
    caplog.clear()
    assert read_and_close(sample.path, index) == sample.upto(6)
    assert caplog.text == ""


@pytest.mark.parametrize("index", ENGINES)
def test_an_index_that_is_behind_is_brought_up(
    index: str, small_segments: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    shutil.copytree(sample.path / f"index-{index}", tmp_path / "old")
    store = open_log(sample.path, index)
    more = [record for n in range(5) for record in Scribe(store).write("b", f"new{n}")]
    store.close()
    sample.without_index()
    (tmp_path / "old").rename(sample.path / f"index-{index}")
    assert read_and_close(sample.path, index) == sample.upto(6) + more
    assert caplog.text == ""


@pytest.mark.parametrize("index", ENGINES)
def test_opening_replays_only_what_the_index_lacks(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    asked = []
    commits = segments.Segments.commits

    def recorded(self: segments.Segments, end: End) -> object:
        asked.append(end)
        return commits(self, end)

    monkeypatch.setattr(segments.Segments, "commits", recorded)
    open_log(sample.path, index).close()
    assert asked == [End(1, sample.ends[-2], sample.ends[-1], 18, 6)]


def remove_a_file(index: Path) -> None:
    max(index.iterdir(), key=lambda file: file.stat().st_size).unlink()


def empty_the_files(index: Path) -> None:
    for file in index.iterdir():
        file.write_bytes(b"")


def fill_with_noise(index: Path) -> None:
    for file in index.iterdir():
        file.write_bytes(b"\xaa" * file.stat().st_size)


def put_a_file_there(index: Path) -> None:
    shutil.rmtree(index)
    index.write_bytes(b"no index")


def empty_directory(index: Path) -> None:
    shutil.rmtree(index)
    index.mkdir()


@pytest.mark.parametrize("index", ENGINES)
@pytest.mark.parametrize(
    "spoil", [remove_a_file, empty_the_files, fill_with_noise, put_a_file_there, empty_directory]
)
def test_a_broken_index_is_made_again(
    index: str, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    spoil(sample.path / f"index-{index}")
    assert read_and_close(sample.path, index) == sample.upto(6)


@pytest.mark.parametrize("index", ENGINES)
def test_another_stores_index_is_made_again(
    index: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    other = make_sample(tmp_path / "other", commits=2, index=index)
    sample.without_index()
    (other.path / f"index-{index}").rename(sample.path / f"index-{index}")
    with caplog.at_level(logging.WARNING, "rewind"):
        assert read_and_close(sample.path, index) == sample.upto(6)
    assert "the index of another store" in caplog.text


@pytest.mark.parametrize("index", ENGINES)
def test_segments_that_lost_what_the_index_knows_are_damage(
    index: str, small_segments: None, tmp_path: Path
) -> None:
    sample = make_sample(tmp_path / "store", index=index)
    kept = {file.name: file.read_bytes() for file in sample.segments()}
    store = open_log(sample.path, index)
    for _ in range(5):
        Scribe(store).write("b", "b", "b")
    store.close()
    shutil.rmtree(sample.path / "segments")
    (sample.path / "segments").mkdir()
    for name, content in kept.items():
        (sample.path / "segments" / name).write_bytes(content)
    with pytest.raises(StoreDamaged, match="commits that were acknowledged are gone"):
        open_log(sample.path, index)
    assert {file.name: file.read_bytes() for file in sample.segments()} == kept
    sample.without_index()  # as the message says
    assert read_and_close(sample.path, index) == sample.upto(6)


@pytest.mark.skipif(default_scheme() != "leveldb", reason="needs plyvel")
def test_changing_the_engine_leaves_no_old_index_behind(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store", index="sqlite")
    assert read_and_close(sample.path, "leveldb") == sample.upto(6)
    assert [entry.name for entry in sample.path.glob("index-*")] == ["index-leveldb"]


def test_an_index_that_misleads_is_damage_that_says_what_to_do(tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "store")
    store = open_log(sample.path)
    key, _ = next(store._keys.scan(b"vb", b"vc"))
    _, run = next(store._keys.scan(b"vs0", b"vs1"))
    store._keys.write([(key, run)])
    with pytest.raises(StoreDamaged, match=r"index-sqlite is damaged: .* Remove it"):
        read_whole_stream(store, "b")
    assert list(store.check())
    store.close()
    sample.without_index()
    assert read_and_close(sample.path) == sample.upto(6)


RUN = struct.Struct(">QQIIIQQQQ")


@pytest.mark.parametrize("by", [-1, 1, 100])
def test_a_run_that_leads_beyond_its_block_is_damage(by: int, tmp_path: Path) -> None:
    assert_a_changed_run_is_damage(tmp_path, ["s", "s"], 1, by)


@pytest.mark.parametrize(("field", "by"), [(1, 1), (2, 1), (2, 99_999), (3, 1), (4, 1)])
def test_a_run_that_leads_to_another_piece_is_damage(field: int, by: int, tmp_path: Path) -> None:
    assert_a_changed_run_is_damage(tmp_path, ["s"], field, by)


def assert_a_changed_run_is_damage(path: Path, events: list[str], field: int, by: int) -> None:
    store = open_log(path / "store")
    scribe = Scribe(store)
    for _ in range(2):
        scribe.write("t", *events, "t")
    key, value = next(store._keys.scan(b"vs", b"vt"))
    run = list(RUN.unpack(value))
    run[field] += by
    store._keys.write([(key, RUN.pack(*run))])
    with pytest.raises(StoreDamaged, match=r"index-.* is damaged: .* Remove it"):
        read_whole_stream(store, "s")
    assert list(store.check())
    store.close()


def test_a_rebuild_puts_entries_a_bounded_piece_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "REPLAY_ENTRIES", 10)
    sample = make_sample(tmp_path / "store")
    sample.without_index()
    assert read_and_close(sample.path) == sample.upto(6)


# --- failures ---


def fail_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)


def fail_write(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", refuse)


def cut_write_short(monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:-1], offset)
    )


def fail_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "ftruncate", refuse)


@pytest.mark.parametrize("fail", [fail_sync, fail_write, cut_write_short])
def test_a_failed_write_ends_the_use(
    fail: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_log(tmp_path / "store")
    scribe = Scribe(store)
    written = scribe.write("a")
    (record,) = scribe.records([{"stream": "a"}])
    commit = Commit(2, 1, [record])
    with monkeypatch.context() as failing:
        fail(failing)
        with pytest.raises(StoreFailed):
            store.commit(commit)
    for use in (
        lambda: store.commit(commit),
        lambda: store.read(0, 9, 9, 9),
        lambda: store.versions(["a"]),
    ):
        with pytest.raises(StoreFailed, match="must be opened again"):
            use()
    left = listing(tmp_path / "store")
    store.close()
    assert listing(tmp_path / "store") == left
    # It was never acknowledged, so it may be there or not: what matters is that it is whole.
    found = read_and_close(tmp_path / "store")
    assert found in (written, [*written, record.encoded])


@pytest.mark.parametrize("fail", [fail_write, cut_write_short, fail_cut])
def test_a_segment_that_could_not_be_begun_is_begun_by_the_next_opening(
    fail: Callable[[pytest.MonkeyPatch], None],
    small_segments: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = open_log(tmp_path / "store")
    scribe = Scribe(store)
    written = scribe.write({"stream": "a", "data": b"x" * 600})  # the next one begins a segment
    with monkeypatch.context() as failing:
        fail(failing)
        with pytest.raises(StoreFailed):
            scribe.write("a")
    left = listing(tmp_path / "store")
    store.close()
    assert listing(tmp_path / "store") == left
    assert read_and_close(tmp_path / "store") == written


def test_a_full_segment_is_cut_and_synced_before_the_next_one_is_begun(
    small_segments: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_log(tmp_path / "store")
    Scribe(store).write({"stream": "a", "data": b"x" * 600})
    done: list[str] = []

    def noted(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any) -> Any:
            done.append(name)
            return real(*arguments)

        return call

    for name in ("ftruncate", "fsync", "open", "pwrite", "fdatasync"):
        monkeypatch.setattr(os, name, noted(name))
    Scribe(store).write("a")
    assert done[:5] == ["ftruncate", "fsync", "open", "pwrite", "fsync"]  # the last: the new header
    assert done[-2:] == ["pwrite", "fdatasync"]
    monkeypatch.undo()
    store.close()


def test_opening_syncs_what_it_takes_for_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = make_sample(tmp_path / "store", commits=1)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    open_log(sample.path).close()
    assert len(synced) == 1


def test_a_store_that_is_refused_keeps_its_zeros(tmp_path: Path) -> None:
    store = open_log(tmp_path / "store")
    Scribe(store).write("a")
    end = store._segments.end.offset
    store.settle()
    copy = crashed(store, tmp_path / "copy")
    store.close()
    (segment,) = (copy / "segments").iterdir()
    content = segment.read_bytes()
    segment.write_bytes(content[: end - 20] + bytes(len(content) - end + 20))
    before = listing(copy)
    with pytest.raises(StoreDamaged):
        open_log(copy)
    assert listing(copy) == before


@pytest.mark.parametrize("index", ENGINES)
def test_a_failed_index_write_ends_the_use_and_loses_nothing(index: str, tmp_path: Path) -> None:
    store = open_log(tmp_path / "store", index)
    written = Scribe(store).write("a")

    def refuse(entries: object) -> None:
        raise StoreFailed("the index cannot be written")

    store._keys.write = refuse
    with pytest.raises(StoreFailed, match="cannot be written"):
        store.settle()
    for use in (store.settle, lambda: store.read(0, 9, 9, 9), lambda: Scribe(store).write("b")):
        with pytest.raises(StoreFailed, match="must be opened again"):
            use()
    store.close()
    assert read_and_close(tmp_path / "store", index) == written


def test_an_interrupted_index_write_is_made_again(tmp_path: Path) -> None:
    store = open_log(tmp_path / "store")
    written = Scribe(store).write("a")
    write = store._keys.write

    def interrupt(entries: object) -> None:
        store._keys.write = write
        raise KeyboardInterrupt

    store._keys.write = interrupt
    with pytest.raises(KeyboardInterrupt):
        store.settle()
    assert read_all(store) == written
    written += Scribe(store).write("a")
    assert read_whole_stream(store, "a") == written
    store.close()


@pytest.mark.parametrize("cut", [-1, 1])
def test_entries_of_another_size_are_damage(cut: int, tmp_path: Path) -> None:
    store = open_log(tmp_path / "store")
    Scribe(store).write("a")
    key, value = next(store._keys.scan(b"va", b"vb"))
    store._keys.write([(key, value[:cut] if cut < 0 else value + b"x")])
    with pytest.raises(StoreDamaged, match=r"index-.* is damaged: .* Remove it"):
        read_whole_stream(store, "a")
    store._keys.write([(key, b"")])
    with pytest.raises(StoreDamaged, match=r"index-.* is damaged: .* Remove it"):
        read_whole_stream(store, "a")
    store.close()
