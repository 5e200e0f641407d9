"""Notices: one line a kind and minute, whatever happens how often."""

from __future__ import annotations

import logging

import pytest

from rewind.daemon.notices import KINDS_MAX, PERIOD_S, Notices


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices(clock: Clock, caplog: pytest.LogCaptureFixture) -> Notices:
    caplog.set_level(logging.INFO, "rewind")
    return Notices(clock)


def test_what_comes_again_is_counted(
    notices: Notices, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(5):
        notices.say("a", logging.WARNING, "peer %d errs", n)
    notices.say("b", logging.INFO, "another")
    notices.flush()
    assert caplog.messages == ["peer 0 errs", "another"]
    clock.now_s = PERIOD_S
    notices.flush()
    assert caplog.messages[2:] == ["peer 4 errs (4 more like it)"]
    notices.say("a", logging.WARNING, "peer 6 errs")
    notices.say("b", logging.INFO, "another")
    assert caplog.messages[3:] == ["another"], "a minute without it, and the next is said at once"
    clock.now_s = 2 * PERIOD_S
    notices.flush()
    assert caplog.messages[4:] == ["peer 6 errs (1 more like it)"]
    clock.now_s = 3 * PERIOD_S
    notices.flush()
    assert len(caplog.messages) == 5 and notices.due_s() is None


def test_when_it_is_due_is_known(notices: Notices, clock: Clock) -> None:
    assert notices.due_s() is None
    notices.say("a", logging.INFO, "x")
    clock.now_s = 1.0
    notices.say("b", logging.INFO, "x")
    assert notices.due_s() == PERIOD_S


def test_nothing_that_was_counted_is_lost_in_the_end(
    notices: Notices, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(KINDS_MAX + 1):
        notices.say(n, logging.INFO, "x")
        notices.say(n, logging.INFO, "x")
    assert len([line for line in caplog.messages if "1 more" in line]) == 1
    notices.end()
    assert len([line for line in caplog.messages if "1 more" in line]) == KINDS_MAX + 1


def test_what_the_level_hides_costs_nothing(
    notices: Notices, caplog: pytest.LogCaptureFixture
) -> None:
    notices.say("a", logging.DEBUG, "x")
    assert caplog.messages == [] and notices.due_s() is None
