"""Commands from the shell to the last file: cold, warm, and those of an older checkout, beside espm and KL-NMF."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pages
from bench import GIGABYTE, Finished, Row
from espm_speed import ITERATIONS
from sessions import Command, Kind, Session

TITLES: dict[Command, str] = {
    "laplace": "Laplace",
    "nuts": "NUTS, 2 x (500 + 500)",
    "demo": "`bayesunmix demo`",
}
# Shares of the older code's time that this one may take, cold and warm.
MOST: dict[Command, tuple[float, float | None]] = {
    "laplace": (1 / 2, 1 / 3),
    "nuts": (0.6, None),
    "demo": (1 / 2, None),
}
MOST_GIGABYTES = 1.0
TIMES = ("wall time, s", "processor time, s")
MEMORY = ("GB", "GB together", "others' load")


@dataclass(frozen=True)
class Part:
    """What a part of `performance` has found.

    Parameters
    ----------
    body
        Its tables, in Markdown.
    rows
        Of what is asked.
    """

    body: str
    rows: list[Row]


def command_part(session: Session) -> Part:
    """Time every command so often, the older checkout's between this one's."""
    yardsticks = _yardsticks(session)
    kinds: list[Kind] = ["cold", "warm"] if session.before is None else ["before", "cold", "warm"]
    for command in session.commands:
        for _ in range(session.repeat):
            for kind in kinds:
                session.run(kind, command)
    rows = [
        [
            f"{TITLES[command]}, {kind}",
            *costs(program.seconds, program.cpu_seconds),
            over_espm(session, program.cpu_seconds),
            *memory(program),
        ]
        for command in session.commands
        for kind in kinds
        for program in [session.best(kind, command).program]
    ]
    headings = ("on the 71 GPa map", *TIMES, f"over espm's {ITERATIONS}", *MEMORY)
    asked = [*_shares(session), *_peaks(session, kinds), *_convergence(session, kinds)]
    return Part(pages.table(headings, [*yardsticks, *rows]), asked)


def _yardsticks(session: Session) -> list[list[str]]:
    """Rows of the other programs, of their iterations alone and of the whole of them."""
    found = []
    for name, measured in (
        (f"espm, {ITERATIONS} iterations of SmoothNMF", session.espm),
        ("scikit-learn, KL-NMF", session.nmf),
    ):
        if measured is not None:
            alone, program = measured
            updates = f" in {alone['updates']:.0f} updates" if "updates" in alone else ""
            times = alone["iterate"], alone["iterate_cpu"]
            found += [
                [f"{name}{updates} alone", *costs(*times), over_espm(session, times[1]), "", "", ""],
                [
                    f"{name}, reading and start included",
                    *costs(program.seconds, program.cpu_seconds),
                    over_espm(session, program.cpu_seconds),
                    *memory(program),
                ],
            ]
    return found


def costs(seconds: float, cpu_seconds: float) -> list[str]:
    """Write both times."""
    return [f"{seconds:.1f}", f"{cpu_seconds:.1f}"]


def over_espm(session: Session, cpu_seconds: float) -> str:
    """Write processor time in units of espm's, where it has been measured."""
    return "" if session.espm is None else f"{cpu_seconds / session.espm[0]['iterate_cpu']:.2f}"


def memory(program: Finished) -> list[str]:
    """Write memory, and what disturbed."""
    held = (program.peak_bytes, program.together_bytes)
    return [*(f"{each / GIGABYTE:.2f}" for each in held), f"{program.load:.1f}"]


def ratio_row(what: str, own: Finished, other: Finished, most: float | None) -> Row:
    """Row of one program's time over another's; processor time decides, which other programs disturb least."""
    wall, cpu = own.seconds / other.seconds, own.cpu_seconds / other.cpu_seconds
    measured = (
        f"{cpu:.2f} of the processor time ({own.cpu_seconds:.0f} s over {other.cpu_seconds:.0f} s), "
        f"{wall:.2f} of the wall time ({own.seconds:.0f} s over {other.seconds:.0f} s)"
    )
    holds = None if most is None else bool(cpu <= most)
    return Row(what, "" if most is None else f"at most {most:.2g}", measured, holds)


def _shares(session: Session) -> list[Row]:
    """Rows of what is left of the older checkout's time."""
    if session.before is None:
        return []
    kinds: tuple[Kind, Kind] = ("cold", "warm")
    return [
        ratio_row(
            f"{TITLES[command]}, {kind}: share of the time before",
            session.best(kind, command).program,
            session.best("before", command).program,
            most,
        )
        for command in session.commands
        for kind, most in zip(kinds, MOST[command], strict=True)
    ]


def _peaks(session: Session, kinds: Sequence[Kind]) -> list[Row]:
    """Rows of memory by Laplace, of all processes together."""
    if "laplace" not in session.commands:
        return []
    found = []
    for kind in kinds:
        program = session.best(kind, "laplace").program
        largest, together, _ = memory(program)
        holds = bool(program.together_bytes <= MOST_GIGABYTES * GIGABYTE)
        found.append(
            Row(
                f"Laplace, {kind}: peak memory",
                "" if kind == "before" else f"at most {MOST_GIGABYTES:.0f} GB",
                f"{together} GB, {largest} GB of it in the largest process",
                None if kind == "before" else holds,
            )
        )
    return found


def _convergence(session: Session, kinds: Sequence[Kind]) -> list[Row]:
    """Rows of R-hat and effective sample size by NUTS: they must be what they were."""
    if "nuts" not in session.commands:
        return []
    found = []
    for kind in kinds:
        health = session.best(kind, "nuts").record["diagnostics"]
        measured = f"R-hat at most {health['rhat_max']:.3f}, ESS at least {health['ess_bulk_min']:.0f}"
        found.append(Row(f"NUTS, {kind}: convergence", "as before", measured))
    return found
