"""docs/decisions.rst as a race: sixteen writers call its functions at once, and its rules hold ever after.

What is asserted is the whole history, replayed in order: at no position is a rule broken. The functions
are those of the page. A failure prints its seed.
"""

from __future__ import annotations

import datetime
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from conftest import DURABLE, store_url
from pages import defined

import rewind
from rewind import Client, ConcurrencyConflict, Event
from rewind.testing import Daemon

WRITERS = 16
TURNS = 6  # so often each of them decides
ATTEMPTS_MAX = WRITERS * TURNS  # each conflict is somebody's success, and there are no more of them

Turn = Callable[[random.Random, int, int], None]


@pytest.fixture(scope="module", params=DURABLE)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A client of a daemon on a durable store."""
    url = store_url(request.param, tmp_path_factory.mktemp(request.param))
    with Daemon(url) as daemon, rewind.connect(daemon.endpoint, timeout=60) as client:
        yield client


@pytest.fixture
def shop(store: Client) -> SimpleNamespace:
    """The functions of the page, which decide in that store."""
    names = defined("decisions")
    names["store"] = store
    return SimpleNamespace(**names)


def race(turn: Turn, refused: type[Exception]) -> int:
    """Let all writers take their turns at once; how many were not refused.

    ``turn``: is given randomness, the writer's number and the turn's. A conflict is decided again.
    """
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    begin = threading.Barrier(WRITERS)

    def write(writer: int) -> int:
        chooser = random.Random(seed + writer)
        done = 0
        begin.wait()
        for number in range(TURNS):
            choice = chooser.getrandbits(32)
            for _ in range(ATTEMPTS_MAX):
                try:
                    turn(random.Random(choice), writer, number)
                    done += 1
                except ConcurrencyConflict:
                    continue
                except refused:
                    pass
                break
            else:
                raise AssertionError("more conflicts than there are decisions")
        return done

    with ThreadPoolExecutor(WRITERS) as threads:
        return sum(threads.map(write, range(WRITERS)))


def history(store: Client, *types: str) -> list[Event]:
    return list(store.read(types=types))


def test_no_course_has_more_students_than_seats(store: Client, shop: SimpleNamespace) -> None:
    for course in range(4):
        shop.define_course(course, seats=3)

    def turn(choose: random.Random, writer: int, number: int) -> None:
        if writer == 0:
            shop.change_seats(choose.randrange(4), number + 3)
        else:
            shop.join(choose.randrange(8), choose.randrange(4))

    race(turn, shop.Refused)
    seats: dict[str, int] = {}
    of_course: Counter[str] = Counter()
    of_student: Counter[str] = Counter()
    pairs = set()
    for event in history(store, "CourseDefined", "SeatsChanged", "StudentJoined"):
        if event.type != "StudentJoined":
            seats[event.tags[0]] = event.json()["seats"]
            continue
        course, student = event.tags
        assert (course, student) not in pairs, event
        pairs.add((course, student))
        of_course[course] += 1
        of_student[student] += 1
        assert of_course[course] <= seats[course], event
        assert of_student[student] <= shop.COURSES_EACH, event
    assert len(pairs) >= 4 * 3, "somebody found a seat wherever there was one"


def test_a_name_has_one_holder(store: Client, shop: SimpleNamespace) -> None:
    def turn(choose: random.Random, writer: int, number: int) -> None:
        old, new = choose.sample(["ada", "bert", "cleo", "dora"], 2)
        act = choose.choice([shop.take_name, shop.rename, shop.leave])
        act(
            *{shop.take_name: (writer, old), shop.rename: (writer, old, new)}.get(
                act, (writer, old)
            )
        )

    done = race(turn, shop.Refused)
    holders: dict[str, int] = {}
    events = history(store, "UserJoined", "UserRenamed", "UserLeft")
    for event in events:
        names = [tag.removeprefix("name:") for tag in event.tags]
        if event.type == "UserJoined":
            assert names[0] not in holders, event
            holders[names[0]] = event.json()["user"]
        elif event.type == "UserRenamed":
            assert names[1] not in holders, event
            assert event.json()["user"] == holders.pop(names[0]), event
            holders[names[1]] = event.json()["user"]
        else:
            assert event.stream == f"user-{holders.pop(names[0])}", event
    assert len(events) == done


def test_invoice_numbers_have_no_gaps(store: Client, shop: SimpleNamespace) -> None:
    def turn(choose: random.Random, writer: int, number: int) -> None:
        shop.issue(writer, choose.randrange(10_000))

    done = race(turn, shop.Refused)
    numbers = [event.json()["number"] for event in history(store, "InvoiceIssued")]
    assert done == WRITERS * TURNS
    assert numbers == list(range(1, done + 1))


def test_a_token_works_once(store: Client, shop: SimpleNamespace) -> None:
    for token in range(TURNS):
        shop.sign_up(f"{token}@example.org", token)
    with pytest.raises(shop.Refused, match="too old"):
        shop.confirm(0, valid=datetime.timedelta(0))

    done = race(lambda choose, writer, number: shop.confirm(number), shop.Refused)
    confirmed = history(store, "SignUpConfirmed")
    assert done == len(confirmed) == TURNS
    assert len({event.tags for event in confirmed}) == TURNS


def test_nobody_pays_a_price_that_is_gone(store: Client, shop: SimpleNamespace) -> None:
    products = ("kettle", "teapot")
    for product in products:
        shop.set_price(product, 1)
    at_once = datetime.timedelta(0)

    def turn(choose: random.Random, writer: int, number: int) -> None:
        if writer < 4:
            shop.set_price(choose.choice(products), choose.randrange(1, 3))
        else:
            basket = {product: choose.randrange(1, 3) for product in products}
            shop.order(f"{writer}.{number}", basket, grace=at_once)

    race(turn, shop.Refused)
    prices: dict[str, int] = {}
    for event in history(store, "PriceSet", "Ordered"):
        if event.type == "PriceSet":
            prices[event.tags[0].removeprefix("product:")] = event.json()["cents"]
        else:
            assert event.json() == prices, event


def test_a_form_is_sent_once(store: Client, shop: SimpleNamespace) -> None:
    done = race(lambda choose, writer, number: shop.submit(number, "kettle"), shop.Refused)
    placed = history(store, "OrderPlaced")
    assert done == len(placed) == TURNS
    assert len({event.tags for event in placed}) == TURNS
