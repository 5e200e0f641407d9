"""Commits of the log that marks alone tell of: their packets, torn, damaged, and of an earlier release."""

from __future__ import annotations

import random
import shutil
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID
from zlib import crc32

import pytest
from golden_stores import STORES

from rewind.backends import Commit, blocks
from rewind.backends.log import segments
from rewind.backends.log.packets import StoredCommit
from rewind.backends.log.segments import START, Segments
from rewind.errors import StoreDamaged, StoreForeign
from rewind.events import AppendEvent, Record, make_record

STORE_ID = UUID(int=1)
APPEND_ID = b"a" * 16

Marks = dict[str, bytes | None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "segments"


def records(after: int, count: int, size: int = 40) -> list[Record]:
    """Events of one stream that has nothing else in it."""
    event = AppendEvent(None, "s", "t", (), {}, b"x" * size)
    places = range(after + 1, after + count + 1)
    return [
        make_record(event, position=place, recorded_at_ns=place, id=bytes(16), version=place)
        for place in places
    ]


def write(path: Path, *commits: tuple[int, Marks], close: bool = True) -> list[int]:
    """Commits of so many events and these marks. Returns where each ends, after where the first begins."""
    opened = Segments(path, STORE_ID, create=not path.exists())
    found = list(opened.commits(START))
    opened.make_ready(found[-1].end if found else START)
    ends = [opened.end.offset]
    for count, marks in commits:
        end = opened.end
        ids = [(APPEND_ID, end.last + 1, end.last + count)] if count else []
        opened.append(Commit(end.number + 1, end.last, records(end.last, count), ids, marks))
        ends.append(opened.end.offset)
    opened.close() if close else opened.release()
    return ends


def settle(path: Path) -> list[StoredCommit]:
    """The commits that are left by what opening does with the segments."""
    opened = Segments(path, STORE_ID, create=False)
    try:
        found = list(opened.commits(START))
        opened.make_ready(found[-1].end if found else START)
    finally:
        opened.close()
    return found


def marks_of(path: Path) -> list[tuple[int, int, Marks]]:
    """The number of each commit, the head there, and its marks."""
    return [(commit.end.number, commit.end.last, commit.marks) for commit in settle(path)]


def only_file(path: Path) -> Path:
    (file,) = path.iterdir()
    return file


MIXED: list[tuple[int, Marks]] = [
    (2, {}),
    (0, {"cursor:a": b"1"}),
    (0, {"cursor:a": b"2", "cursor:\u00e4": bytes(range(256))}),
    (3, {"cursor:a": b"3"}),
    (0, {"cursor:a": None}),
]
READ = [
    (1, 2, {}),
    (2, 2, MIXED[1][1]),
    (3, 2, MIXED[2][1]),
    (4, 5, MIXED[3][1]),
    (5, 5, MIXED[4][1]),
]


def test_numbers_and_marks_come_back(path: Path) -> None:
    write(path, *MIXED)
    assert marks_of(path) == READ
    assert [len(commit.records) for commit in settle(path)] == [2, 0, 0, 3, 0]
    assert [len(commit.addresses) for commit in settle(path)] == [1, 0, 0, 1, 0]


def test_a_store_may_begin_with_marks_alone(path: Path) -> None:
    write(path, (0, {"m": b"1"}), (0, {"m": b"2"}))
    assert marks_of(path) == [(1, 0, {"m": b"1"}), (2, 0, {"m": b"2"})]
    write(path, (1, {}))
    assert marks_of(path)[-1] == (3, 1, {})


def test_the_marks_of_a_commit_of_many_packets_are_in_the_last(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES_MAX", 120)
    write(path, (5, {"m": b"1"}), (0, {"m": None}))
    first, second = settle(path)
    assert len(first.addresses) > 2
    assert (first.marks, first.append_ids) == ({"m": b"1"}, [(APPEND_ID, 1, 5)])
    assert second.marks == {"m": None}


@pytest.mark.parametrize("packets", [120, 10_000])
def test_any_torn_commit_is_wholly_absent_wherever_it_was_torn(
    packets: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES_MAX", packets)
    ends = write(path, *MIXED)
    file = only_file(path)
    content = file.read_bytes()
    for which, (begin, end) in enumerate(pairwise(ends)):
        for offset in range(begin, end):
            if not content[offset:end].strip(b"\0"):
                continue  # zeros are what stands there anyway
            # It is cut there, or zeros follow from there on, or its beginning is lost.
            for tail in (b"", bytes(end - offset + 99)):
                file.write_bytes(content[:offset] + tail)
                assert marks_of(path) == READ[:which]
                assert file.read_bytes() == content[:begin]
            file.write_bytes(
                content[:begin] + bytes(offset + 1 - begin) + content[offset + 1 : end]
            )
            assert marks_of(path) == READ[:which]


def test_any_damage_in_front_of_a_later_commit_is_refused(path: Path) -> None:
    ends = write(path, *MIXED)
    file = only_file(path)
    content = file.read_bytes()
    for begin, end in pairwise(ends[:-1]):
        for offset in range(begin, end):
            damaged = bytearray(content)
            damaged[offset] ^= 0x10
            for tail in (b"", bytes(50)):
                file.write_bytes(damaged + tail)
                with pytest.raises(
                    StoreDamaged, match=f"damaged at offset {begin}: .* a later one"
                ):
                    settle(path)
                assert file.read_bytes() == damaged + tail


def test_one_damaged_commit_of_marks_between_two_others_is_refused(path: Path) -> None:
    # Their positions are the same: nothing but the number says that one is missing.
    ends = write(path, *((0, {"m": bytes([n])}) for n in range(3)))
    file = only_file(path)
    content = file.read_bytes()
    file.write_bytes(content[: ends[1]] + bytes(ends[2] - ends[1]) + content[ends[2] :])
    with pytest.raises(StoreDamaged, match=f"offset {ends[1]}: .* later one at offset {ends[2]}"):
        settle(path)
    file.write_bytes(content[: ends[1]] + content[ends[2] :])
    with pytest.raises(StoreDamaged, match=f"offset {ends[1]}: .* later one at offset {ends[1]}"):
        settle(path)


def test_a_commit_that_stands_there_twice_is_not_read_twice(path: Path) -> None:
    ends = write(path, *MIXED[:2])
    file = only_file(path)
    content = file.read_bytes()
    file.write_bytes(content + content[ends[1] :])
    assert marks_of(path) == READ[:2]


def test_a_segment_is_begun_by_events_and_not_by_marks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 100)
    write(path, (1, {}), *((0, {"m": bytes([n])}) for n in range(9)))
    assert [file.name for file in path.iterdir()] == [f"{1:020}.log"]
    write(path, (2, {"m": b"new"}), (0, {"m": b"newer"}), (1, {}))
    assert sorted(int(file.stem) for file in path.iterdir()) == [1, 2, 4]
    assert [row[:2] for row in marks_of(path)] == [
        *((number, 1) for number in range(1, 11)),
        (11, 3),
        (12, 3),
        (13, 4),
    ]


def test_lost_marks_at_the_end_of_a_full_segment_are_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The next segment begins with the right position, and with a number that is not the next.
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 100)
    write(path, (1, {}))
    first = only_file(path)
    before = first.read_bytes()
    write(path, (0, {"m": b"1"}), (1, {}), (1, {}))
    first.write_bytes(before)
    with pytest.raises(StoreDamaged, match=r"no whole commit begins here|a later one"):
        settle(path)


def test_a_packet_of_marks_has_few_bytes(path: Path) -> None:
    begin, end = write(path, (0, {"cursor:mailer": bytes(15)}))
    assert end - begin == 72 + len(b"\x81\xad" + b"cursor:mailer" + b"\xc4\x0f") + 15


# --- of earlier and later releases ---


@pytest.fixture
def old(tmp_path: Path) -> tuple[Path, UUID]:
    """The segments of a golden store, and its id."""
    shutil.copytree(STORES / "log" / "segments", tmp_path / "old")
    header = only_file(tmp_path / "old").read_bytes()[: segments.SEGMENT_HEADER_BYTES]
    return tmp_path / "old", UUID(bytes=header[16:32])


def test_a_commit_of_an_earlier_release_has_the_number_of_its_last_position(
    old: tuple[Path, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store_id = old
    monkeypatch.setattr(f"{__name__}.STORE_ID", store_id)
    found = settle(path)
    assert len(found) > 40 and any(len(commit.records) > 1 for commit in found)
    assert all(commit.end.number == commit.end.last for commit in found)
    assert all(commit.marks == {} for commit in found)
    head = found[-1].end.last
    write(path, (0, {"m": b"1"}), (2, {"m": b"2"}))
    assert marks_of(path)[len(found) :] == [
        (head + 1, head, {"m": b"1"}),
        (head + 2, head + 2, {"m": b"2"}),
    ]


def test_damage_in_front_of_a_later_commit_of_an_earlier_release_is_refused(
    old: tuple[Path, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store_id = old
    monkeypatch.setattr(f"{__name__}.STORE_ID", store_id)
    first, second = (commit.end for commit in settle(path)[:2])
    file = only_file(path)
    content = file.read_bytes()
    for end in (first, second):
        for offset in range(end.begin, end.offset):
            damaged = bytearray(content)
            damaged[offset] ^= 0x10
            file.write_bytes(damaged)
            with pytest.raises(StoreDamaged, match=f"offset {end.begin}: .* a later one"):
                settle(path)
            assert file.read_bytes() == damaged


@pytest.mark.parametrize("torn", [1, 30, 60])
@pytest.mark.parametrize("kept", [0, 1, 4])
def test_an_unfinished_commit_of_an_earlier_release_is_cut_off(
    torn: int, kept: int, old: tuple[Path, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The fourth holds several events, so its number is more than one more than the last.
    path, store_id = old
    monkeypatch.setattr(f"{__name__}.STORE_ID", store_id)
    found = settle(path)
    begin = found[kept].end.begin
    file = only_file(path)
    content = file.read_bytes()
    file.write_bytes(content[:begin] + bytes(torn) + content[begin + torn : found[kept].end.offset])
    assert settle(path) == found[:kept]
    assert file.read_bytes() == content[:begin]


def test_damage_among_commits_of_an_earlier_release_is_refused_when_marks_stand_behind(
    old: tuple[Path, UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store_id = old
    monkeypatch.setattr(f"{__name__}.STORE_ID", store_id)
    end = settle(path)[-1].end
    write(path, (0, {"m": b"1"}))
    file = only_file(path)
    content = bytearray(file.read_bytes())
    for offset in range(end.begin, end.offset):
        damaged = bytearray(content)
        damaged[offset] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(
            StoreDamaged, match=f"offset {end.begin}: .* later one at .* {end.offset}"
        ):
            settle(path)


def forge(file: Path, packet: int, form: str, place: int, value: int) -> bytes:
    """Change a field of the packet at an offset, with the right checksums. What the file then holds."""
    content = bytearray(file.read_bytes())
    (salt,) = struct.unpack_from("<I", content, 40)
    struct.pack_into(form, content, packet + place, value)
    checksum = crc32(content[packet : packet + 52], salt)
    struct.pack_into("<I", content, packet + 52, checksum)
    if content[packet + 4] == 1:
        more = crc32(content[packet + 56 : packet + 68], checksum)
        struct.pack_into("<I", content, packet + 68, more)
    file.write_bytes(content)
    return bytes(content)


def test_a_packet_of_a_newer_release_is_foreign(path: Path) -> None:
    begin, _ = write(path, (1, {}))
    content = forge(only_file(path), begin, "<I", 4, 2)
    with pytest.raises(StoreForeign, match="newer Rewind"):
        settle(path)
    assert only_file(path).read_bytes() == content


def test_packets_that_tell_of_different_commits_are_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES_MAX", 120)
    write(path, (3, {}))
    (commit,) = settle(path)
    second = commit.addresses[1].offset - 72
    forge(only_file(path), second, "<Q", 40, 2)  # as if the commit ended with it
    assert settle(path) == []


def test_every_packet_says_its_format_where_an_earlier_release_looks_for_it(path: Path) -> None:
    # The first 56 bytes of a header have the form that every release reads; it refuses the flags.
    for begin in write(path, *MIXED)[:-1]:
        content = only_file(path).read_bytes()
        salt = struct.unpack_from("<I", content, 40)[0]
        magic, flags = struct.unpack_from("<4sI", content, begin)
        (checksum,) = struct.unpack_from("<I", content, begin + 52)
        assert (magic, flags) == (b"Rwnd", 1)
        assert checksum == crc32(content[begin : begin + 52], salt)


def test_random_commits_come_back_however_they_are_cut_into_openings(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    monkeypatch.setattr(segments, "SEGMENT_BYTES", 2_000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES_MAX", 150)
    expected: list[Any] = []
    for _ in range(30):
        commits: list[tuple[int, Marks]] = []
        for _ in range(rng.randrange(6)):
            names = rng.sample(["a", "b", "\u00e9", "x" * 255], rng.randrange(1, 4))
            marks = {n: rng.choice((None, b"", rng.randbytes(300))) for n in names}
            commits.append(rng.choice(((0, marks), (rng.randrange(1, 9), {}), (2, marks))))
        write(path, *commits, close=rng.random() < 0.5)
        for count, marks in commits:
            number, last, _ = expected[-1] if expected else (0, 0, {})
            expected.append((number + 1, last + count, marks))
        assert marks_of(path) == expected
