"""What runs Rewind elsewhere, systemd's unit and the Dockerfile, against what is here: names, options, codes.

Neither can be run by a test; ``systemd-analyze`` looks at the unit where it is installed.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from rewind.cli import entry
from rewind.daemon.settings import Settings, settings, variable
from rewind.errors import BadConfiguration, RewindError

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "packaging" / "rewind.service"
DOCKERFILE = ROOT / "Dockerfile"
EXPOSURE_MAX = 15  # tenths; systemd calls 2.0 and less safe

systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def command_of(words: list[str]) -> tuple[str, dict[str, object]]:
    """The name of the command that a shell's words are, and its options. Raises what Click raises."""
    name, *options = words
    return name, entry.commands.commands[name].make_context(name, options).params


# --- systemd ------------------------------------------------------------------------


def unit() -> dict[str, list[str]]:
    """The settings of the unit, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            name, equals, value = line.partition("=")
            assert equals and re.fullmatch(r"[A-Za-z]+", name), line
            found.setdefault(name, []).append(value)
    return found


def test_the_unit_starts_a_daemon_that_exists() -> None:
    program, *words = shlex.split(unit()["ExecStart"][0])
    command, options = command_of(words)
    assert program.endswith("/rewind") and command == "serve"
    directory = unit()["StateDirectory"][0]
    assert options["store"] == f"/var/lib/{directory}"
    assert unit()["Type"] == ["notify"]


def test_the_unit_does_not_restart_what_would_fail_again() -> None:
    final = {int(code) for code in unit()["RestartPreventExitStatus"][0].split()}
    errors = set(exit_codes(RewindError))
    # 1 is a refused request, 69 no daemon, 70 a mistake, 71 a bind, 74 a disk, 75 a lock: they may pass.
    assert final == (errors | {2}) - {1, 69, 70, 71, 74, 75}


def exit_codes(error: type[RewindError]) -> list[int]:
    """The exit codes of an error and of all that are derived from it."""
    return [
        error.exit_code,
        *(code for one in error.__subclasses__() for code in exit_codes(one)),
    ]


@systemd
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    copy = tmp_path / "rewind.service"
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/rewind/bin/rewind", "/bin/true"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@systemd
def test_systemd_finds_little_to_attack() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE_MAX}", UNIT],
        capture_output=True,
        text=True,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd cannot look at a unit that is not loaded")
    assert done.returncode == 0, done.stdout + done.stderr


# --- Docker -------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile and what follows each, lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]  # fmt: skip


def environment() -> dict[str, str]:
    """The variables that the image sets."""
    pairs = [pair for word, rest in instructions() if word == "ENV" for pair in shlex.split(rest)]
    return dict(pair.split("=", 1) for pair in pairs)


def test_what_the_image_is_made_of_is_here_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*", "what is needed is named, so that nothing else gets in"
    sources = []
    for word, rest in instructions():
        if word == "COPY":
            sources += rest.split()[:-1]
    assert set(sources) == {line[1:] for line in ignored if line.startswith("!")}
    for source in sources:
        assert (ROOT / source).exists(), source
    needed = re.findall(r'Path\("([^"]+)"\)|license_files=\["([^"]+)"\]',
                        (ROOT / "setup.py").read_text(encoding="utf-8"))  # fmt: skip
    for name in filter(None, (name for pair in needed for name in pair)):
        assert name.split("/")[0] in sources, name


def test_the_image_is_a_daemon_without_privileges_and_with_a_volume() -> None:
    words = dict(instructions())
    assert words["USER"] == "rewind" and "useradd --system" in words["RUN"]
    assert words["VOLUME"] == environment()["REWIND_STORE"]
    assert json.loads(words["ENTRYPOINT"]) == ["rewind"]
    command, options = command_of(json.loads(words["HEALTHCHECK"].partition("CMD ")[2])[1:])
    assert command == "ping" and options["wait"] == 5


def test_the_variables_of_the_image_are_settings() -> None:
    variables = {name: value for name, value in environment().items() if name.startswith("REWIND_")}
    known = {variable(name) for name in Settings.__struct_fields__}
    assert variables.keys() <= known
    with pytest.raises(BadConfiguration, match="add --insecure"):
        settings({}, variables)  # Whoever publishes the ports has to say so.
    made = settings({}, {**variables, "REWIND_INSECURE": "1"})
    ports = {endpoint.rpartition(":")[2] for endpoint in
             (*made.incoming_bind, *made.streaming_bind, *made.topic_bind)}  # fmt: skip
    assert ports == set(dict(instructions())["EXPOSE"].split())
