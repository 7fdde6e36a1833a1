"""Measure what a run costs, and write the tables of docs/performance.md.

    python benchmarks/performance.py --data FOLDER [--espm-python PYTHON] [--against CHECKOUT] [--only PART ...]
        [--out docs/performance.md]

Everything is timed in one call on one machine: commands of this code without compiled programs (cold) and with those
of another map (warm), those of an older checkout between them, and on the same map 20 iterations of espm and
scikit-learn's KL-NMF. `phases` is long and runs only where it is named. On a busy machine trust processor time.
"""

from __future__ import annotations

import datetime
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import pages
from bench import Options, Row
from command_costs import Part, command_part
from machine import Machine
from phase_costs import phases_part
from rich.console import Console
from run import PLAIN_WIDTH, table_of
from second_map import second_map_part
from sessions import COMMANDS, Command, Session
from stage_costs import stages_part
from timed import Checkout

PARTS: dict[str, Callable[[Session], Part]] = {
    "commands": command_part,
    "stages": stages_part,
    "second_map": second_map_part,
    "phases": phases_part,
}
LONG = ("phases",)


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="BAYESUNMIX_BENCHMARK_DATA",
    required=True,
    help="Folder with the 71 GPa map [env: BAYESUNMIX_BENCHMARK_DATA].",
)
@click.option(
    "--espm-python",
    type=click.Path(path_type=Path),
    envvar="BAYESUNMIX_ESPM_PYTHON",
    help="Interpreter of an environment with espm 1.1.3 [env: BAYESUNMIX_ESPM_PYTHON].",
)
@click.option(
    "--against",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout, whose commands are timed between these.",
)
@click.option("--only", type=click.Choice(list(PARTS)), multiple=True, help="Part; may be repeated.")
@click.option(
    "--command",
    "commands",
    type=click.Choice(COMMANDS),
    multiple=True,
    help="Command; may be repeated.",
)
@click.option("--repeat", type=click.IntRange(1), default=1, help="Times that each command is timed [1].")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Page to write the tables into.")
@click.option(
    "--keep", type=click.Path(path_type=Path), help="Keep what the commands write in this new folder."
)
def main(
    data: Path,
    espm_python: Path | None,
    against: Path | None,
    only: tuple[str, ...],
    commands: tuple[Command, ...],
    repeat: int,
    out: Path | None,
    keep: Path | None,
) -> None:
    """Measure the chosen parts one after the other."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    begun = f"{datetime.date.today():%d %B %Y}", os.getloadavg()[0]
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="bayesunmix-performance-") as temporary:
        work = Path(temporary if keep is None else keep).resolve()
        work.mkdir(parents=True, exist_ok=True)
        before = None if against is None else Checkout.of(against.resolve(), work / "before")
        options = Options(data.resolve(), work, espm_python=espm_python)
        session = Session(options, before, commands or COMMANDS, repeat)
        for name in [name for name in PARTS if name in (only or set(PARTS) - set(LONG))]:
            console.print(f"{name} ...", highlight=False)
            part = PARTS[name](session)
            found[name] = part.rows
            body = f"{circumstances(session, *begun)}\n\n{part.body}"
            console.print(body, markup=False, highlight=False, soft_wrap=True)
            if out is not None:
                # Page by page: what has been measured survives an interruption.
                out.write_text(pages.replaced(out.read_text(encoding="utf-8"), name, body), encoding="utf-8")
    console.print(table_of(found))
    if any(row.holds is False for rows in found.values() for row in rows):
        raise SystemExit(1)


def circumstances(session: Session, day: str, load: float) -> str:
    """Say when, where and of which code."""
    code = f"this code is at `{session.this.commit or 'no commit'}`"
    if session.before is not None:
        code += f", the code before at `{session.before.commit or 'no commit'}`"
    return f"{day}; {Machine.here()} The machine's load at the beginning was {load:.1f}; {code}."


if __name__ == "__main__":
    main()
