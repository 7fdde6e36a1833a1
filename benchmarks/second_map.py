"""A second map of another shape with three other elements: what is compiled again, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pages
from bench import Finished, Row
from command_costs import TIMES, Part, costs
from sessions import Session
from timed import watched

# Seconds of the longest compilation, and share of the first map's time.
LONGEST_COMPILATION, MOST = 0.2, 0.4


def second_map_part(session: Session) -> Part:
    """Unmix another map after the real one, in a new process that finds its programs, and in the same process."""
    spectrum_image, config = session.other_map
    first = session.arguments("laplace")
    other = ("unmix", spectrum_image, "--config", config, "--method", "laplace")
    programs = session.programs()
    cold, (alone,) = _watched(session, [first], programs)
    apart, (after,) = _watched(session, [other], programs)
    _, (one, two) = _watched(session, [first, other], session.programs())
    headings = ("Laplace", *TIMES, "compilations", "longest, s", "all, s")
    table = [
        ["the 71 GPa map", *costs(cold.seconds, cold.cpu_seconds), *_compiled(alone)],
        ["then another map, in a new process", *costs(apart.seconds, apart.cpu_seconds), *_compiled(after)],
        ["the 71 GPa map, once more without programs", *_inside(one)],
        ["then another map, in the same process", *_inside(two)],
    ]
    rows = [
        *second_rows("in a new process", after["compilations"], apart.cpu_seconds / cold.cpu_seconds),
        *second_rows("in the same process", two["compilations"], two["cpu_seconds"] / one["cpu_seconds"]),
    ]
    return Part(pages.table(headings, table), rows)


def _watched(
    session: Session, commands: Sequence[Sequence[str | Path]], programs: Path
) -> tuple[Finished, list[dict[str, Any]]]:
    """Run commands in one process, each into a new folder."""
    job = {"commands": [[*map(str, command), "--out", str(session.new("watched"))] for command in commands]}
    program, answer = watched(job, programs)
    return program, answer["commands"]


def _inside(command: dict[str, Any]) -> list[str]:
    return [*costs(command["seconds"], command["cpu_seconds"]), *_compiled(command)]


def _compiled(command: dict[str, Any]) -> list[str]:
    took = command["compilations"]
    return [str(len(took)), f"{max(took, default=0.0):.2f}", f"{sum(took):.1f}"]


def second_rows(where: str, compilations: Sequence[float], share: float) -> list[Row]:
    """Rows of a second map: its longest compilation, and its share of the first one's processor time."""
    longest = max(compilations, default=0.0)
    over = sum(seconds > LONGEST_COMPILATION for seconds in compilations)
    counted = f"{over} above, of {len(compilations)}; the longest {longest:.2f} s"
    return [
        Row(f"second map {where}: compilations", f"none above {LONGEST_COMPILATION} s", counted, over == 0),
        Row(
            f"second map {where}: share of the first one's processor time",
            f"at most {MOST}",
            f"{share:.2f}",
            bool(share <= MOST),
        ),
    ]
