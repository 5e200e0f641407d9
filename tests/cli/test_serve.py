"""``rewind serve``: how a daemon starts, or why not; its settings; how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
import zmq
from raw import Raw
from shell import CLEAN, PATIENCE_S, REWIND, eventually, fail, fill, running, succeed

from rewind import NewEvent
from rewind.daemon import Settings, option, variable
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"

NOBODY = 65534


def start(*options: str, code: str = "", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Start a daemon that ends at once, because something is wrong."""
    binds = {"--incoming-bind": "tcp://127.0.0.1:*", "--streaming-bind": "", "--topic-bind": ""}
    given = [part for pair in binds.items() if pair[0] not in options for part in pair]
    command = [sys.executable, "-c", code] if code else REWIND
    env = {**CLEAN, **more.pop("env", {})}
    return subprocess.run(
        [*command, "serve", *given, *options],
        capture_output=True,
        env=env,
        timeout=PATIENCE_S,
        **more,
    )


def assert_failed(code: int, words: str, done: subprocess.CompletedProcess[bytes]) -> None:
    """It ended with this exit code and one line on stderr that has these words."""
    assert done.returncode == code, done
    assert words in done.stderr.decode() and done.stderr.count(b"\n") == 1, done.stderr.decode()


def test_an_endpoint_in_use_is_exit_71(shared: Daemon, tmp_path: Path) -> None:
    used = shared.endpoints["incoming"]
    assert_failed(71, used, start("--store", "memory:", "--incoming-bind", used))
    assert_failed(71, used, start("--store", "memory:", "--topic-bind", used))
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        assert_failed(71, path, start("--store", "memory:", "--incoming-bind", f"ipc://{path}"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--incoming-bind", "tcp://127.0.0.1"],
            "--incoming-bind=tcp://127.0.0.1: not an endpoint",
        ),
        (["--incoming-bind", "127.0.0.1:9090"], "not an endpoint"),
        (
            ["--topic-bind", "tcp://127.0.0.1:99999"],
            "--topic-bind=tcp://127.0.0.1:99999: a port is",
        ),
        (["--incoming-bind", ""], "--incoming-bind is empty"),
        (["--gorewind-bind", "ipc://"], "ipc:// takes a path"),
        (["--incoming-bind", "tcp://0.0.0.0:*"], "add --insecure"),
        (["--streaming-bind", "tcp://*:*"], "add --insecure"),
        (["--store", "mongo:x"], "unknown scheme 'mongo'"),
        (["--store", ""], "--store is empty"),
        (["--store", "sqlite:"], "no path"),
        (["--max-event-bytes", "many"], "--max-event-bytes=many: not a whole number"),
        (["--max-event-bytes", "0"], "--max-event-bytes=0: 1 to"),
        (["--feed-messages", "-1"], "--feed-messages=-1"),
        (["--log-level", "loud"], "--log-level=loud: choose one of"),
    ],
)
def test_a_wrong_setting_is_exit_78_and_named(
    tmp_path: Path, options: list[str], words: str
) -> None:
    assert_failed(78, words, start(*options, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_variable_is_exit_78_and_named() -> None:
    wrong = {"REWIND_LOG_LEVEL": "loud", "REWIND_STORE": "memory:"}
    assert_failed(78, "REWIND_LOG_LEVEL=loud", start(env=wrong))
    wrong = {"REWIND_INSECURE": "perhaps", "REWIND_STORE": "memory:"}
    assert_failed(78, "REWIND_INSECURE=perhaps", start(env=wrong))


def test_a_locked_store_is_exit_75_and_names_its_owner(store: str) -> None:
    with Daemon(store) as daemon:
        assert_failed(75, f"in use by pid {daemon.process.pid} ", start("--store", store))


def test_a_missing_parent_is_exit_73(tmp_path: Path) -> None:
    assert_failed(
        73, "parent directory does not exist", start("--store", str(tmp_path / "a" / "b"))
    )


def test_a_damaged_store_is_exit_65(store: str) -> None:
    fill(store, "s", NewEvent("t"))
    (Path(store) / "rewind.json").write_text("{")
    assert_failed(65, "is damaged", start("--store", store))
    assert "is damaged" in fail(65, "read", "-e", store)


def test_a_store_whose_files_are_gone_is_exit_65(store: str) -> None:
    fill(f"sqlite:{store}", "s", NewEvent("t"))
    for path in Path(store).glob("events.sqlite*"):
        path.unlink()
    assert_failed(65, "", start("--store", store))


def test_a_foreign_path_is_exit_65_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    assert_failed(65, "no Rewind store but other files", start("--store", str(tmp_path)))
    assert_failed(65, "is a file", start("--store", str(tmp_path / "precious")))
    assert os.listdir(tmp_path) == ["precious"]


def test_another_scheme_or_a_newer_format_is_exit_65(store: str) -> None:
    fill(f"sqlite:{store}", "s", NewEvent("t"))
    assert_failed(65, "scheme 'sqlite', not 'log'", start("--store", f"log:{store}"))
    file = Path(store) / "rewind.json"
    identity = {**json.loads(file.read_text()), "format": 99}
    covered = f"{identity['scheme']} 99 {identity['store_id']}"
    file.write_text(json.dumps({**identity, "crc": crc32(covered.encode())}))
    assert_failed(65, "format 99, newer", start("--store", store))


AS_NOBODY = f"""
import os, sys, rewind.daemon.process, rewind.backends.sqlite, rewind.cli
if os.getuid() == 0:
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
rewind.cli.main()
"""


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A directory that others than root can look into, but not write to."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        (path / "store").mkdir(0o700)
        path.chmod(0o555)
        yield path
        path.chmod(0o755)


def test_what_the_system_does_not_permit_is_exit_77(unwritable: Path) -> None:
    new = f"sqlite:{unwritable / 'new'}"
    assert_failed(77, "Permission denied", start("--store", new, code=AS_NOBODY, cwd="/"))
    endpoint = f"ipc://{unwritable / 'socket'}"
    assert_failed(77, "Permission denied",
                  start("--store", "memory:", "--incoming-bind", endpoint, code=AS_NOBODY, cwd="/"))  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="needs a store of another user's")
def test_a_store_of_another_user_is_exit_77(unwritable: Path) -> None:
    store = f"sqlite:{unwritable / 'store'}"
    fill(store, "s", NewEvent("t"))
    assert_failed(77, "Permission denied", start("--store", store, code=AS_NOBODY, cwd="/"))


WITHOUT_PLYVEL = "import sys; sys.modules['plyvel'] = None; import rewind.cli; rewind.cli.main()"


def test_without_plyvel_its_scheme_is_exit_78_and_says_what_to_do(store: str) -> None:
    done = start("--store", f"leveldb:{store}", code=WITHOUT_PLYVEL)
    assert_failed(78, "needs the Python package 'plyvel'", done)
    assert not Path(store).exists()


def test_without_plyvel_the_default_store_is_sqlite(store: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PLYVEL, "append", "s", "--data", "", "--create", "-e", store],
                          input=b"", check=True, env=CLEAN)  # fmt: skip
    assert done.returncode == 0
    assert json.loads((Path(store) / "rewind.json").read_text())["scheme"] == "sqlite"


# --- settings ----------------------------------------------------------------


def test_every_setting_is_an_option_with_its_variable_and_default() -> None:
    for command in ([], ["serve"]):
        text = " ".join(succeed(*command, "--help").decode().split())
        for name in Settings.__struct_fields__:
            assert f"{option(name)} " in text and variable(name) in text
            default = getattr(Settings(), name)
            if name != "insecure":
                shown = " ".join(default) if isinstance(default, tuple) else default
                assert f"default: {shown or 'off'}" in text


@contextlib.contextmanager
def ready_daemon(
    *options: str, env: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A daemon with these options alone, and its ready line."""
    with running(*options, env=env, stdin=None) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if b" ready " in line or process.poll())
        yield process, line.decode()


def test_rewind_alone_runs_the_daemon_with_the_settings_in_its_environment(store: str) -> None:
    env = {
        "REWIND_STORE": f"sqlite:{store}",
        "REWIND_INCOMING_BIND": "tcp://127.0.0.1:* tcp://127.0.0.1:*",
        "REWIND_STREAMING_BIND": "",
        "REWIND_TOPIC_BIND": "tcp://127.0.0.1:*",
        "REWIND_MAX_EVENT_BYTES": "1000",
    }
    with ready_daemon(env=env) as (_, line):
        assert f"store=sqlite:{store}" in line and "streaming" not in line
        incoming = line.partition("incoming=")[2].split()[0].split(",")
        assert len(incoming) == 2
        for endpoint in incoming:
            limits = json.loads(succeed("info", "--format", "json", "-e", endpoint))["limits"]
            assert limits["event_bytes"] == 1000


def test_an_option_beats_its_variable(store: str) -> None:
    env = {
        "REWIND_STORE": "unknown-scheme:x",
        "REWIND_INCOMING_BIND": "nonsense",
        "REWIND_TOPIC_BIND": "tcp://127.0.0.1:*",
        "REWIND_STREAMING_BIND": "nonsense",
        "REWIND_INSECURE": "0",
    }
    options = ["--store", f"sqlite:{store}", "--incoming-bind", "tcp://127.0.0.1:*",
               "--streaming-bind", "", "--topic-bind", "tcp://127.0.0.1:*", "--topic-bind",
               "tcp://127.0.0.1:*", "--insecure"]  # fmt: skip
    with ready_daemon(*options, env=env) as (_, line):
        assert "streaming=" not in line
        assert line.partition("topic=")[2].split()[0].count("tcp://") == 2
        endpoint = line.partition("incoming=")[2].split()[0]
        assert json.loads(succeed("info", "--format", "json", "-e", endpoint))["insecure"] is True


def test_serve_takes_options_on_either_side_of_its_name(store: str) -> None:
    env = {"REWIND_STREAMING_BIND": "", "REWIND_TOPIC_BIND": ""}
    options = ["--store", "memory:", "--incoming-bind", "tcp://127.0.0.1:*", "serve", "--store",
               f"sqlite:{store}"]  # fmt: skip
    with ready_daemon(*options, env=env) as (_, line):
        assert f"store=sqlite:{store}" in line


# --- the end -----------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_with_0(store: str, number: signal.Signals) -> None:
    with ready_daemon("--store", store, "--incoming-bind", "tcp://127.0.0.1:*", "--streaming-bind", "",
                      "--topic-bind", "", env={}) as (process, _):  # fmt: skip
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None and b"stopped at head 0" in process.stderr.read()


def test_sigterm_under_steady_load_is_0_and_keeps_what_was_acknowledged(store: str) -> None:
    acknowledged = [0, 0, 0]
    with Daemon(store) as daemon:

        def load(writer: int) -> None:
            where = daemon.endpoints["incoming"]
            with Raw(where, timeout_ms=3_000) as raw, contextlib.suppress(zmq.Again, KeyError):
                while True:
                    acknowledged[writer] = raw.append((f"w{writer}", b"x"))["versions"][
                        f"w{writer}"
                    ]

        writers = [threading.Thread(target=load, args=(n,)) for n in range(3)]
        for writer in writers:
            writer.start()
        eventually(lambda: min(acknowledged) >= 20)
        assert daemon.stop() == 0
        for writer in writers:
            writer.join()
    stored = {
        line.split()[1]: int(line.split()[0])
        for line in succeed("streams", "-e", store).decode().splitlines()
    }
    assert all(stored[f"w{n}"] >= acknowledged[n] for n in range(3))


def test_sigterm_is_noticed_while_connections_come_and_go() -> None:
    # A signal that arrived inside ZeroMQ was once kept waiting for the next message.
    ended = threading.Event()
    endpoint = ["tcp://127.0.0.1:1"]

    def come_and_go() -> None:
        while not ended.is_set():
            with Raw(endpoint[0]):
                ended.wait(0.001)

    churn = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in churn:
        thread.start()
    try:
        for _ in range(20):
            with Daemon("memory:", "--streaming-bind", "", "--topic-bind", "") as daemon:
                endpoint[0] = daemon.endpoints["incoming"]
                with Raw(endpoint[0]) as raw:
                    raw.native("INFO")
                assert daemon.stop() == 0
    finally:
        ended.set()
        for thread in churn:
            thread.join()


def test_a_second_signal_ends_a_slow_ending_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(notify := str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        with (
            Daemon("memory:", env={"NOTIFY_SOCKET": notify}) as daemon,
            Raw(daemon.endpoints["incoming"]) as raw,
        ):
            raw.socket.rcvhwm = 1
            raw.socket.disconnect(daemon.endpoints["incoming"])
            raw.socket.connect(daemon.endpoints["incoming"])
            for _ in range(8):
                raw.append(("s", b"x" * 2_000_000))
            body = msgspec.msgpack.encode({"max_bytes": 8 * 1024 * 1024})
            for _ in range(64):  # answers nobody takes: the ending waits a second for them
                raw.send(b"READ", b"r", body)
            raw.recv()  # the others are right behind the first
            assert systemd.recv(100) == b"READY=1"
            daemon.process.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert daemon.stop() == 128 + signal.SIGTERM


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_ready_and_stopping(tmp_path: Path, abstract: bool) -> None:
    name = f"rewind-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        systemd.settimeout(PATIENCE_S)
        with Daemon("memory:", env={"NOTIFY_SOCKET": ("@" if abstract else "") + name}) as daemon:
            assert systemd.recv(100) == b"READY=1"
            assert daemon.stop() == 0
            assert systemd.recv(100) == b"STOPPING=1"
