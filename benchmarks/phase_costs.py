"""Eight phases, and their number left to the map, against the three that are declared."""

from __future__ import annotations

import pages
from command_costs import MEMORY, TIMES, Part, costs, memory, ratio_row
from real_map import CONFIG
from sessions import Session
from timed import timed

# What the configuration says in place of three phases, and how often their time it may take.
ASKED = {"eight phases": "8", '`phases = "auto"`': '"auto"'}
MOST = 4.0


def phases_part(session: Session) -> Part:
    """Unmix the real map by Laplace, each time without compiled programs."""
    three = session.best("cold", "laplace").program
    found = {"three declared phases": three}
    for what, phases in ASKED.items():
        config = session.new("phases.toml")
        config.write_text(with_phases(CONFIG.read_text(encoding="utf-8"), phases), encoding="utf-8")
        arguments = ("unmix", session.real_map, "--config", config, "--method", "laplace")
        found[what] = timed(arguments, session.new("phases"), session.this, session.programs()).program
    table = [
        [
            what,
            *costs(one.seconds, one.cpu_seconds),
            f"{one.cpu_seconds / three.cpu_seconds:.2f}",
            *memory(one),
        ]
        for what, one in found.items()
    ]
    rows = [ratio_row(f"{what} beside three", found[what], three, MOST) for what in ASKED]
    return Part(pages.table(("Laplace, cold", *TIMES, "over three phases'", *MEMORY), table), rows)


def with_phases(config: str, phases: str) -> str:
    """Put a number of phases in the place of the tables that declare them, which end a configuration."""
    return f"phases = {phases}\n{config.partition('[[phases]]')[0]}"
