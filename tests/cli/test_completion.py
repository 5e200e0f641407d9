"""``rewind completion``, and the answers to the script that it prints."""

from __future__ import annotations

import pytest
from shell import succeed

import rewind
from rewind import NewEvent

pytest_plugins = "cli_fixtures"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: str) -> None:
    assert f"_REWIND_COMPLETE={shell}_complete" in succeed("completion", shell).decode()


def test_completion_completes() -> None:
    asked = {"_REWIND_COMPLETE": "bash_complete", "COMP_WORDS": "rewind re", "COMP_CWORD": "1"}
    assert succeed(env=asked) == b"plain,read\n"
    asked["COMP_WORDS"] = "rewind serve --inc"
    assert succeed(env={**asked, "COMP_CWORD": "2"}) == b"plain,--incoming-bind\n"


def offered(line: str, **env: str) -> list[str]:
    """What bash is told that may stand where the line ends."""
    words = line.split(" ")
    asked = {
        "_REWIND_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    answer = succeed(env={**asked, **env}).decode().split("\n")
    return [word.removeprefix("plain,") for word in answer if word]


def test_completion_offers_the_streams_of_the_daemon(at: list[str], stream: str) -> None:
    with rewind.connect(at[1]) as client:
        for name in ("a", "b", "two words", "(x)"):
            client.append(f"{stream}-{name}", NewEvent("t"))
    both = [f"{stream}-a", f"{stream}-b"]
    where = {"REWIND_ENDPOINT": at[1]}
    assert offered(f"rewind read --stream {stream}", **where) == both
    assert offered(f"rewind tail -s {stream}-a", **where) == both[:1]
    assert offered(f"rewind read --prefix {stream}", **where) == both
    assert offered(f"rewind append {stream}", **where) == both
    assert offered(f"rewind streams -e {at[1]} {stream}") == both


def test_completion_offers_what_else_has_names(at: list[str], stream: str) -> None:
    name = stream.replace("-", "")  # A category has none.
    with rewind.connect(at[1]) as client:
        client.append(f"{name}c-1", NewEvent(f"{name}t", tags=[f"{name}g", f"{name}(x)"]))
        client.reset_cursor(f"{name}u", 1)
    where = {"REWIND_ENDPOINT": at[1]}
    for line, last in [
        ("rewind read --type", "t"), ("rewind tail --tag", "g"), ("rewind read --category", "c"),
        ("rewind append s --type", "t"), ("rewind append s --tag", "g"), ("rewind types", "t"),
        ("rewind tags", "g"), ("rewind categories", "c"), ("rewind cursors", "u"),
        ("rewind cursor show", "u"), ("rewind cursor reset", "u"), ("rewind cursor delete", "u"),
    ]:  # fmt: skip
        assert offered(f"{line} {name}", **where) == [f"{name}{last}"], line


def test_completion_is_silent_where_no_daemon_answers(nobody_there: str, store: str) -> None:
    for where in (nobody_there, "tcp://", store, f"sqlite:{store}"):
        assert offered("rewind read -s x", REWIND_ENDPOINT=where) == []
    assert offered("rewind read -s a -s ", REWIND_ENDPOINT=nobody_there) == []
