"""Odd configurations, Python calls, output folders and map files: no traceback, no crash, no hang.

    python benchmarks/robustness.py [--only configs ...] [--number N] [--seed N] [--case configs:17] [--files FOLDER]

Cases are drawn from a seed and a number, so that one that failed can be had again. They run in a process of their own,
which is replaced when it dies or does not answer. What is accepted is computed up to the search for the mode: what
comes later does not depend on how odd the input was. A case is at fault when it ends in an exception that is no
`InputError`, in exit 1, in more than one line of complaint, in a line of more than 1500 letters, or not at all.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import robustness_cases as cases
from bench import BAYESUNMIX, Options, Row, run_program

# Seconds in which a case must have answered, and letters that a complaint may have.
LIMIT = 180.0
LONGEST = 1500
NUMBERS = {"configs": 200, "calls": 200, "folders": 40, "files": 300}
# What the help of a command may take, beside other programs.
HELP_SECONDS = 1.0


@dataclass(frozen=True)
class Answer:
    """How a case has ended: ``refused``, ``accepted`` or ``fault``, and what was said."""

    state: str
    said: str


class Server:
    """A process that runs one case after the other, and is replaced when it dies or hangs."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, kind: str, seed: int, number: int) -> Answer:
        """Run a case."""
        self._pipe.send((kind, seed, number))
        try:
            if self._pipe.poll(LIMIT):
                return Answer(*self._pipe.recv())
            answer = Answer("fault", f"no answer in {LIMIT:.0f} s")
        except EOFError:
            self._process.join()
            answer = Answer("fault", f"the process died with {self._process.exitcode}")
        self.stop()
        self._start()
        return answer

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection, work: Path) -> None:
    _stop_before_the_search()
    while True:
        try:
            kind, seed, number = pipe.recv()
        except EOFError:
            return
        folder = Path(tempfile.mkdtemp(dir=work, prefix=f"{kind}-{number}-"))
        try:
            draw = random.Random(f"{kind} {seed} {number}")
            pipe.send(_judged(cases.CASES[kind], draw, folder, work))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _stop_before_the_search() -> None:
    """Let a run end where the search for the mode would begin."""
    from bayesunmix import stages

    def enough(*_: object, **__: object) -> None:
        raise cases.EnoughError

    stages.find_mode = stages.count_phases = enough  # type: ignore[assignment]


def _judged(case: Callable[..., Any], draw: random.Random, folder: Path, work: Path) -> tuple[str, str]:
    from bayesunmix.core.errors import InputError

    try:
        status, said = case(draw, folder, work)
    except InputError as error:
        status, said = 2, f"bayesunmix: error: {error}\n"
    except cases.EnoughError:
        status, said = 0, ""
    except BaseException:  # whatever it is, it should not have come here
        return "fault", traceback.format_exc()
    complaints = [line for line in said.splitlines() if line.startswith("bayesunmix: error:")]
    if "Traceback" in said or status not in (0, 2, 3):
        return "fault", f"exit {status}: {said}"
    if status == 2 and (len(complaints) != 1 or len(complaints[0]) > LONGEST):
        return "fault", f"{len(complaints)} complaints: {said[:3000]}"
    return ("refused" if status == 2 else "accepted"), said


def study(
    kinds: tuple[str, ...], number: int | None, seed: int, work: Path, files: Path | None
) -> list[tuple[str, int, Answer]]:
    """Run cases of some kinds, and say which are at fault as they come."""
    cases.prepare(work, files, kinds)
    found: list[tuple[str, int, Answer]] = []
    server = Server(work)
    for kind in kinds:
        for one in range(number or NUMBERS[kind]):
            answer = server.run(kind, seed, one)
            found.append((kind, one, answer))
            if answer.state == "fault":
                print(f"{kind}:{one} (seed {seed}) {answer.said}\n", flush=True)
        counts = Counter(answer.state for which, _, answer in found if which == kind)
        print(f"{kind}: {dict(counts)}", flush=True)
    server.stop()
    return found


def rows(options: Options) -> list[Row]:
    """One row for each kind of input, and the time of the help."""
    work = options.folder("robustness")
    number = 20 if options.quick else None
    found = study(tuple(NUMBERS), number, 0, work, options.data)
    table = []
    for kind in NUMBERS:
        states = Counter(answer.state for which, _, answer in found if which == kind)
        measured = ", ".join(f"{states[state]} {state}" for state in ("refused", "accepted", "fault"))
        table.append(Row(f"odd {kind}", "no fault", measured, states["fault"] == 0))
    seconds = min(run_program((*BAYESUNMIX, "--help")).seconds for _ in range(3))
    table.append(Row("help", f"{HELP_SECONDS:g} s", f"{seconds:.2f} s", seconds < HELP_SECONDS))
    return table


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--only", type=click.Choice(list(NUMBERS)), multiple=True, help="Kind of input; may be repeated."
)
@click.option("--number", type=click.IntRange(1), help="Cases of each kind.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--case", "single", metavar="KIND:NUMBER", help="One case alone, and all that it says.")
@click.option(
    "--files",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with further small map files to damage.",
)
def main(
    only: tuple[str, ...], number: int | None, seed: int, single: str | None, files: Path | None
) -> None:
    """Run the cases; exit 1 where one is at fault."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        if single is not None:
            kind, _, which = single.partition(":")
            cases.prepare(work, files, (kind,))
            answer = Server(work).run(kind, seed, int(which))
            print(answer.state, answer.said, sep="\n")
            return
        found = study(only or tuple(NUMBERS), number, seed, work, files)
    faults = sum(answer.state == "fault" for _, _, answer in found)
    print(f"{len(found)} cases, {faults} at fault, {time.perf_counter() - begin:.0f} s")
    raise SystemExit(faults > 0)


if __name__ == "__main__":
    main()
