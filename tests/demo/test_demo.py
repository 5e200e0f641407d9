"""The demo: flights as events, the table made of them, and ``rewind demo`` as people run it."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import termios
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import psutil
import pytest

import rewind
from rewind.demo import figures, flights, screen, story
from rewind.demo.punctuality import Punctuality
from rewind.testing import Daemon

AGREES = "The table agrees with the CSV"
RUN_S = 60
MINUTE = timedelta(minutes=1)

ROWS = list(flights.read_rows())
FLIGHTS = [flights.flight_of(row) for row in ROWS]

ROW = {
    "year": "2013",
    "month": "7",
    "day": "4",
    "dep_time": "",
    "sched_dep_time": "2100",
    "dep_delay": "",
    "arr_time": "",
    "sched_arr_time": "2330",
    "arr_delay": "",
    "carrier": "UA",
    "flight": "1",
    "tailnum": "N1",
    "origin": "EWR",
    "dest": "IAH",
    "air_time": "",
    "distance": "1400",
    "time_hour": "2013-07-05T01:00:00Z",
}
"""A summer evening: 21:00 in New York is 01:00 UTC of the next day."""


def flight(**values: str) -> flights.Flight:
    return flights.flight_of({**ROW, **values})


def types(one: flights.Flight) -> list[str]:
    return [event.type for event in flights.events_of(one)]


def occurred(one: flights.Flight) -> list[str]:
    return [event.metadata["occurred_at"] for event in flights.events_of(one)]


# --- rows to events ---------------------------------------------------------------


def test_the_week_is_whole() -> None:
    assert len(ROWS) == 6_099
    assert {(row["month"], row["day"]) for row in ROWS} == {("1", str(day)) for day in range(1, 8)}


def test_every_flight_is_scheduled_first_and_once() -> None:
    for one in FLIGHTS:
        assert types(one).index(flights.SCHEDULED) == 0
        assert types(one).count(flights.SCHEDULED) == 1


def test_a_cancelled_flight_never_departs() -> None:
    cancelled = [types(one) for row, one in zip(ROWS, FLIGHTS, strict=True) if not row["dep_time"]]
    assert cancelled == [[flights.SCHEDULED, flights.CANCELLED]] * 35


def test_a_departure_without_arrival_is_no_arrival() -> None:
    lost = [
        types(one)
        for row, one in zip(ROWS, FLIGHTS, strict=True)
        if row["dep_time"] and not row["arr_time"]
    ]
    assert lost == [[flights.SCHEDULED, flights.DEPARTED, flights.DIVERTED_OR_UNKNOWN]] * 3


def test_events_are_as_many_as_the_rows_say() -> None:
    counted = Counter(event.type for _, event in flights.in_order(FLIGHTS))
    departed = sum(row["dep_time"] != "" for row in ROWS)
    arrived = sum(row["arr_time"] != "" for row in ROWS)
    assert counted == {
        flights.SCHEDULED: len(ROWS),
        flights.CANCELLED: len(ROWS) - departed,
        flights.DEPARTED: departed,
        flights.ARRIVED: arrived,
        flights.DIVERTED_OR_UNKNOWN: departed - arrived,
    }


def test_clocks_show_what_the_rows_say() -> None:
    for row, one in zip(ROWS, FLIGHTS, strict=True):
        assert f"{one.due_out:%H%M}" == row["sched_dep_time"].zfill(4)
        if one.departed:
            assert f"{one.departed:%H%M}" == row["dep_time"].zfill(4).replace("2400", "0000")
        if one.arrived:
            assert f"{one.arrived:%H%M}" == row["arr_time"].zfill(4).replace("2400", "0000")


def test_moments_agree_with_delays_and_time_in_the_air() -> None:
    """So the zones are right: an hour more or less and one of these would fail."""
    for one in FLIGHTS:
        if one.arrived and one.departed and one.arrival_delay is not None:
            assert (one.arrived - one.due_in) / MINUTE == one.arrival_delay
            assert one.air_minutes is not None
            on_the_ground = (one.arrived - one.departed) / MINUTE - one.air_minutes
            assert 0 < on_the_ground < 240, one


def test_a_flight_that_leaves_after_midnight_leaves_the_day_after() -> None:
    (late,) = (one for one in FLIGHTS if one.name == "B6707-JFK-2013-01-02")
    assert occurred(late)[:2] == ["2013-01-02T23:59:00-05:00", "2013-01-03T00:42:00-05:00"]


def test_a_clock_at_2400_is_the_midnight_that_ends_the_day() -> None:
    one = flight(dep_time="2100", dep_delay="0", arr_time="2400", arr_delay="30", air_time="200")
    assert occurred(one)[2] == "2013-07-05T00:00:00-05:00"


def test_an_arrival_has_the_zone_of_the_destination_and_the_season() -> None:
    left = {"dep_time": "2100", "dep_delay": "0", "arr_time": "2330"}
    assert occurred(flight(**left))[1:] == [
        "2013-07-04T21:00:00-04:00",
        "2013-07-04T23:30:00-05:00",
    ]
    assert occurred(flight(**left, dest="PHX"))[2] == "2013-07-04T23:30:00-07:00"
    assert occurred(flight(**left, dest="SJU"))[2] == "2013-07-04T23:30:00-04:00"


def test_an_early_departure_stays_on_its_day() -> None:
    assert occurred(flight(dep_time="2017", dep_delay="-43"))[1] == "2013-07-04T20:17:00-04:00"


def test_a_flight_without_aircraft_goes_to_the_unknown_one() -> None:
    for row, one in zip(ROWS, FLIGHTS, strict=True):
        assert one.stream == f"aircraft-{row['tailnum'] or 'unknown'}"
    assert sum(one.stream == "aircraft-unknown" for one in FLIGHTS) == 8


def test_no_two_flights_have_a_name_in_common() -> None:
    assert len({one.name for one in FLIGHTS}) == len(FLIGHTS)


def test_an_event_says_what_it_is_about() -> None:
    event = flights.events_of(FLIGHTS[0])[2]
    assert event.type == flights.ARRIVED
    assert event.tags == ("carrier:UA", "origin:EWR", "dest:IAH")
    assert event.metadata == {
        "content_type": "application/json",
        "occurred_at": "2013-01-01T08:30:00-06:00",
        "correlation_id": "UA1545-EWR-2013-01-01",
    }
    assert json.loads(event.data) == {
        "flight": "UA1545-EWR-2013-01-01",
        "carrier": "UA",
        "origin": "EWR",
        "dest": "IAH",
        "delay_minutes": 11,
        "air_minutes": 227,
    }


def test_all_flights_together_keep_the_order_of_each() -> None:
    by_flight: dict[str, list[str]] = {}
    for _, event in flights.in_order(FLIGHTS):
        by_flight.setdefault(event.metadata["correlation_id"], []).append(event.type)
    assert by_flight == {one.name: types(one) for one in FLIGHTS}


def test_what_happened_comes_in_the_order_of_its_time() -> None:
    moments = [
        datetime.fromisoformat(event.metadata["occurred_at"])
        for _, event in flights.in_order(FLIGHTS)
        if event.type != flights.SCHEDULED  # it is on the board ahead of its time
    ]
    assert moments == sorted(moments)


# --- the table ----------------------------------------------------------------------


def projected() -> Punctuality:
    punctuality = Punctuality()
    with rewind.open("memory:") as client:
        client.append("demo-notes", rewind.NewEvent("NoteTaken", b"not about flights"))
        events = list(flights.in_order(FLIGHTS))
        for start in range(0, len(events), 1_000):
            client.append_streams(events[start : start + 1_000])
        for event in client.read():
            punctuality.apply(event)
    return punctuality


def test_the_projection_has_the_figures_of_the_rows() -> None:
    punctuality = projected()
    assert punctuality.position == 18_263
    assert punctuality.carriers == figures.count(ROWS)


def test_the_figures_are_these() -> None:
    """Counted in another way, so that one mistake in both would show."""
    total = figures.totals(figures.count(ROWS).values())
    delays = [int(row["arr_delay"]) for row in ROWS if row["arr_delay"]]
    assert total == figures.Figures(
        departed=6_064,
        arrived=6_061,
        cancelled=35,
        timed=6_043,
        on_time=sum(delay <= 15 for delay in delays),
        delay_minutes=sum(delays),
    )


def snapshot(position: int = 3, head: int = 5) -> figures.Snapshot:
    united = figures.Figures(4, 3, cancelled=1, timed=2, on_time=1, delay_minutes=30)
    return figures.Snapshot(position, head, "2013-01-01T08:30:00-06:00", {"UA": united})


def test_the_table_says_how_punctual_and_how_far() -> None:
    lines = screen.table(snapshot())
    assert lines[1].split() == ["UA", "United", "4", "3", "1", "50.0%", "+15.0", "min"]
    assert lines[-1] == "Tue 01 Jan 08:30   3 events in, 2 behind; 4 flights departed"
    assert screen.table(snapshot(5))[-1] == (
        "Tue 01 Jan 08:30   5 events in, caught up; 4 flights departed"
    )


def test_an_empty_table_can_be_shown() -> None:
    lines = screen.table(figures.Snapshot(0, 0, "", {}))
    assert lines[1].split() == ["all", "0", "0", "0", "-", "-"]


def test_elsewhere_than_on_a_terminal_progress_is_a_line_now_and_then() -> None:
    out = io.StringIO()
    display = screen.Screen(out)
    assert display.show(["table", "3 in"])
    assert not display.show(["table", "4 in"]), "it is too soon for another line"
    display.finish(["table", "5 in"])
    assert out.getvalue() == "3 in\ntable\n5 in\n"


def test_a_wrong_table_is_not_called_right() -> None:
    with pytest.raises(figures.DemoFailed, match="does not agree"):
        story._compare(snapshot(), ROWS)


# --- the real thing -----------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """For a run of its own; checks that nothing of it remains. A user's settings must not matter."""
    root = str(Path(rewind.__file__).parent.parent)
    variables = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": root,
        "TERM": "xterm",
        "REWIND_STORE": str(tmp_path / "never" / "created"),
        "REWIND_INCOMING_BIND": "tcp://127.0.0.1:1",
    }
    yield variables
    assert list(tmp_path.iterdir()) == []
    assert processes_with(tmp_path) == []


def processes_with(directory: Path) -> list[psutil.Process]:
    """The processes of a run, found by their environment."""
    running = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.environ().get("TMPDIR") == str(directory):
                running.append(process)
    return running


DEMO = [sys.executable, "-m", "rewind", "demo"]


def test_demo_tells_its_story(environment: dict[str, str]) -> None:
    run = subprocess.run(
        DEMO, capture_output=True, text=True, timeout=RUN_S, env=environment, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "6,099 flights" in run.stdout and "18,262 events" in run.stdout
    assert AGREES in run.stdout
    assert "all                    6,064    6,061         35" in run.stdout
    assert re.search(r"'aircraft-N12221' is at version 12: .* expected\s+version\s+11", run.stdout)
    stored = re.findall("^demo-notes version 1 position 18263 id .*$", run.stdout, re.MULTILINE)
    assert len(stored) == 2 and stored[1] == f"{stored[0]} (it was stored before)"
    assert "\x1b" not in run.stdout
    # The daemon has ended: nothing is offered that would need it.
    assert "Try it" not in run.stdout
    assert run.stdout.rstrip().endswith("On a terminal it stays up, for commands of your own.")


def test_demo_into_a_closed_pipe_ends_quietly(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(RUN_S) == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_demo_cleans_up_when_told_to_end(
    environment: dict[str, str], number: signal.Signals, code: int
) -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()  # the daemon and the projection are up
        process.send_signal(number)
        assert process.wait(RUN_S) == code
        assert process.stderr.read() == ""


@pytest.mark.parametrize("argument", ["serve", "rewind.demo.punctuality"])
def test_demo_says_which_process_ended(environment: dict[str, str], argument: str) -> None:
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        (child,) = (
            child for child in psutil.Process(process.pid).children() if argument in child.cmdline()
        )
        child.kill()
        said = process.stderr.read()
        assert process.wait(RUN_S) == 70
        name = "daemon" if argument == "serve" else "projection"
        assert f"the {name} ended with exit code -9" in said
        assert "Traceback" not in said


def _of_a_person() -> None:
    """In the child: its terminal, and a Ctrl-C that works even if the tests run in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A program on a terminal of its own, and everything it wrote there."""

    def __init__(self, command: list[str], environment: dict[str, str], columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=_of_a_person,
        )
        os.close(slave)
        self.text = ""

    def wait_for(self, words: str) -> None:
        deadline_s = time.monotonic() + RUN_S
        while words not in self.text:
            assert time.monotonic() < deadline_s, self.text
            if not self._read():
                raise AssertionError(f"it ended without {words!r}: {self.text}")

    def press_ctrl_c(self) -> int:
        """Returns the exit code."""
        os.write(self.master, b"\x03")
        while self._read():
            pass
        return self.process.wait(RUN_S)

    def _read(self) -> bool:
        if not select.select([self.master], [], [], RUN_S)[0]:
            return False
        try:
            read = os.read(self.master, 65_536).decode()
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.text += read.replace("\r\n", "\n")
        return bool(read)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)


def printed_commands(text: str) -> list[list[str]]:
    """The commands of rewind that were shown, without those that do not end by themselves."""
    shown = re.findall(r"^  \$ ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    commands = [shlex.split(command.replace("\\\n", "")) for command in shown]
    return [words[1:] for words in commands if words[0] == "rewind" and words[1] != "tail"]


def endpoint_in(text: str) -> str:
    """Where the commands that were shown find the daemon."""
    return re.findall(r"^  \$ export REWIND_ENDPOINT=(\S+)$", text, re.MULTILINE)[-1]


def check_a_second_projection(text: str, environment: dict[str, str]) -> None:
    """The last command: the same table, made again from the first event."""
    command = [sys.executable, "-m", "rewind.demo.punctuality"]
    with Terminal(command, environment) as second:
        second.wait_for("events in, caught up; 6,064 flights departed")
        assert second.press_ctrl_c() == 130
        assert "Traceback" not in second.text


def test_demo_on_a_terminal_stays_up_for_its_commands(environment: dict[str, str]) -> None:
    with Terminal(DEMO, environment) as terminal:
        terminal.wait_for("stays up until Ctrl-C")
        assert "\x1b[" in terminal.text, "the table is drawn in place"
        assert AGREES in terminal.text
        commands = printed_commands(terminal.text)
        assert len(commands) >= 10
        environment = {**environment, "REWIND_ENDPOINT": endpoint_in(terminal.text)}
        for arguments in commands:
            run = subprocess.run(
                [sys.executable, "-m", "rewind", *arguments],
                capture_output=True,
                text=True,
                timeout=RUN_S,
                env=environment,
                check=False,
            )
            refused = "--expected-version" in arguments
            assert run.returncode == (1 if refused else 0), (arguments, run.stderr)
            assert refused or run.stdout, arguments
        check_a_second_projection(terminal.text, environment)
        assert terminal.press_ctrl_c() == 0
        assert "Traceback" not in terminal.text


def test_the_demo_fits_eighty_columns_and_shows_what_its_commands_print(
    environment: dict[str, str],
) -> None:
    with Terminal(DEMO, environment, columns=80) as terminal:
        terminal.wait_for("stays up until Ctrl-C")
        text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", terminal.text)
        assert [line for line in text.split("\n") if len(line) > 80] == []
        at_endpoint = {**environment, "REWIND_ENDPOINT": endpoint_in(text)}
        aircraft = ["read", "-s", "aircraft-N12221"]
        with Terminal([*DEMO[:-1], *aircraft], at_endpoint, columns=80) as again:
            while again._read():
                pass
        assert again.text.count("\n") >= 10 and again.text in terminal.text
        assert terminal.press_ctrl_c() == 0


def test_a_projection_that_is_piped_says_when_it_has_caught_up(
    environment: dict[str, str],
) -> None:
    with Daemon("memory:") as daemon, rewind.connect(daemon.endpoint) as client:
        events = list(flights.in_order(FLIGHTS[:300]))
        client.append_streams(events)
        command = [sys.executable, "-m", "rewind.demo.punctuality", "-e", daemon.endpoint]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as projection:
            assert projection.stdout is not None
            # Whatever it has shown by then, what it shows last is the last state.
            for known in (len(events), len(events) + 1):
                wanted = f" {known} events in, caught up;".encode()
                for line in projection.stdout:
                    if wanted in line:
                        break
                else:
                    raise AssertionError("it ended")
                client.append("demo-notes", rewind.NewEvent("NoteTaken"))
            projection.terminate()


def test_ctrl_c_in_the_middle_is_130_without_a_traceback(environment: dict[str, str]) -> None:
    with Terminal(DEMO, environment) as terminal:
        terminal.wait_for("flights departed")
        assert terminal.press_ctrl_c() == 130
        assert "Traceback" not in terminal.text


def test_load_reports_and_agrees(environment: dict[str, str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "rewind.demo.load"],
        capture_output=True,
        text=True,
        timeout=RUN_S,
        env=environment,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "18,262 events" in run.stdout
    assert "The projection agrees with the CSV: 78.7% on time." in run.stdout
