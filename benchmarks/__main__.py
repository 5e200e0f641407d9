"""The command ``python -m benchmarks``. Next: workloads.py, what it measures and how."""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from benchmarks import plot, report
from benchmarks.machine import IN_MEMORY, file_system, machine
from benchmarks.processes import Failed
from benchmarks.stage import Stage
from benchmarks.steps import Measurement, Options, Step, measure
from benchmarks.systems import MODULES
from benchmarks.workloads import WORKLOADS

BAR_CHARACTERS = 24


class Progress:
    """A bar on standard error, if that is a terminal."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._begun_s = time.monotonic()
        self._shown = sys.stderr.isatty()

    def step(self, step: Step, number: int) -> None:
        """A measurement begins."""
        self.say(f"{step.workload} {step.case}, {step.key.system}, round {number}")
        self._done += 1

    def say(self, words: str) -> None:
        """Show what is done now."""
        if not self._shown:
            return
        filled = BAR_CHARACTERS * self._done // max(1, self._total)
        minutes, seconds = divmod(int(time.monotonic() - self._begun_s), 60)
        bar = "#" * filled + "." * (BAR_CHARACTERS - filled)
        click.echo(f"\r\033[K[{bar}] {minutes}:{seconds:02} {words}", nl=False, err=True)

    def end(self) -> None:
        """Clear the line."""
        if self._shown:
            click.echo("\r\033[K", nl=False, err=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--workload", "workloads", multiple=True, type=click.Choice(list(WORKLOADS)), help="Only this one; repeatable.")  # fmt: skip
@click.option("--system", "systems", multiple=True, type=click.Choice(list(MODULES)), help="Only this one; repeatable.")  # fmt: skip
@click.option("--rounds", default=3, type=click.IntRange(1), help="How often all is measured.")
@click.option("--seconds", default=1.0, type=click.FloatRange(0.1), help="How long each measurement takes.")  # fmt: skip
@click.option("--events", default=1_000_000, type=click.IntRange(1_000), help="Size of the stores of W4, W5, W7, W9, W11 and W13.")  # fmt: skip
@click.option("--large", is_flag=True, help="W7 and W11 with 10 million events as well.")
@click.option("--before", type=click.Path(file_okay=False, exists=True, resolve_path=True), default="", show_default=False, help="A checkout of Rewind that W2 and W3 are compared with.")  # fmt: skip
@click.option("--dir", "directory", type=click.Path(file_okay=False, exists=True, path_type=Path), help="Where the stores go; else where temporary files go.")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write every round's figures there.")  # fmt: skip
@click.option("--svg", "svg_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the plot there.")  # fmt: skip
@click.option("--rst", "rst_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the tables for the docs there.")  # fmt: skip
def main(
    workloads: Sequence[str],
    systems: Sequence[str],
    rounds: int,
    seconds: float,
    events: int,
    large: bool,
    before: str,
    directory: Path | None,
    json_file: Path | None,
    svg_file: Path | None,
    rst_file: Path | None,
) -> None:
    """Measure Rewind beside its peers and the limits of the socket and the disk."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    place = directory or Path(tempfile.gettempdir())
    if file_system(place) in IN_MEMORY:
        raise click.UsageError(f"{place} is in memory, where syncing costs nothing: give --dir")
    options = Options(seconds, rounds, events, large, before)
    chosen = {
        name: [
            step for step in WORKLOADS[name](options) if not systems or step.key.system in systems
        ]
        for name in WORKLOADS
        if not workloads or name in workloads
    }
    results = _run(chosen, options, place)
    click.echo(report.text(results))
    for path, write in ((json_file, report.as_json), (svg_file, plot.svg), (rst_file, report.rst)):
        if path is not None:
            path.write_text(write(results), encoding="utf-8")
    if any(name.startswith("rewind") for name in results.left_out):
        sys.exit(1)


def _run(chosen: dict[str, list[Step]], options: Options, place: Path) -> report.Report:
    """All rounds of all workloads."""
    begun_s = time.monotonic()
    date = time.strftime("%Y-%m-%d", time.gmtime())
    progress = Progress(sum(map(len, chosen.values())) * options.rounds)
    measurements: list[Measurement] = []
    notes = {}
    with (
        tempfile.TemporaryDirectory(prefix="rewind-bench-", dir=place) as temporary,
        Stage(Path(temporary), progress.say, options.before) as stage,
    ):
        for name in dict.fromkeys(step.key.system for steps in chosen.values() for step in steps):
            try:
                notes[name] = stage.system(name).note
            except Failed as failure:
                stage.left_out[name] = str(failure)
        for steps in chosen.values():
            measurements += measure(stage, steps, options.rounds, progress.step)
    progress.end()
    return report.Report(
        date,
        time.monotonic() - begun_s,
        machine(place),
        options,
        stage.versions,
        notes,
        stage.left_out,
        stage.fill_rates,
        measurements,
    )


if __name__ == "__main__":
    main()
