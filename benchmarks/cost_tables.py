"""The parts of `performance`: what is timed, the tables of it, and the rows of what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pages
from bench import GIGABYTE, Finished, Row
from espm_speed import ITERATIONS
from machine import Machine
from real_map import CONFIG
from sessions import Command, Session
from timed import STAGES, Stage, Timed, copied, timed, watched

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
# Of a second map: seconds of its longest compilation, and its share of the first one's time.
LONGEST_COMPILATION, SECOND_MAP = 0.2, 0.4
MANY_PHASES, MOST_FOR_MANY = 8, 4.0
COSTS = ("wall time, s", "processor time, s")


@dataclass(frozen=True)
class Part:
    """What a part has found.

    Parameters
    ----------
    body
        For the page.
    rows
        Of what is asked.
    """

    body: str
    rows: list[Row]


def machine_text(machine: Machine, session: Session, day: str, load: float) -> str:
    """Say where and when, and of which code."""
    code = f"this code is at `{session.this.commit or 'no commit'}`"
    if session.before is not None:
        code += f", the code before at `{session.before.commit or 'no commit'}`"
    return f"{day}; {machine} When the measurement began the machine's load was {load:.1f}; {code}."


def command_part(session: Session, repeat: int) -> Part:
    """Commands from the shell to the last file, cold, warm and before, beside espm and KL-NMF."""
    yardsticks = _yardsticks(session)
    kinds = ("cold", "warm") if session.before is None else ("before", "cold", "warm")
    for command in TITLES:
        for _ in range(repeat):
            for kind in kinds:
                session.run(kind, command)
    measured = [
        (f"{title}, {kind}", session.best(kind, command).program)
        for command, title in TITLES.items()
        for kind in kinds
    ]
    headings = ("on the 71 GPa map", *COSTS, f"over espm's {ITERATIONS}", "GB", "GB together", "others' load")
    rows = [_cost_row(what, program, _espm_cpu(session)) for what, program in measured]
    asked = [*_asked(session), *_health(session, kinds)]
    return Part(pages.table(headings, [*yardsticks, *rows]), asked)


def _yardsticks(session: Session) -> list[list[str]]:
    espm_cpu = _espm_cpu(session)
    found = []
    if session.espm is not None:
        seconds, program = session.espm
        what = f"espm, {ITERATIONS} iterations of SmoothNMF alone"
        found.append([what, *_costs(seconds["iterate"], seconds["iterate_cpu"], espm_cpu), "", "", ""])
        found.append(_cost_row("espm, reading and start included", program, espm_cpu))
    seconds, program = session.nmf
    what = f"scikit-learn, KL-NMF, {seconds['updates']:.0f} updates alone"
    found.append([what, *_costs(seconds["iterate"], seconds["iterate_cpu"], espm_cpu), "", "", ""])
    found.append(_cost_row("scikit-learn, reading included", program, espm_cpu))
    return found


def _espm_cpu(session: Session) -> float | None:
    return None if session.espm is None else session.espm[0]["iterate_cpu"]


def _cost_row(what: str, program: Finished, yardstick: float | None) -> list[str]:
    memory = (f"{held / GIGABYTE:.2f}" for held in (program.peak_bytes, program.together_bytes))
    return [what, *_costs(program.seconds, program.cpu_seconds, yardstick), *memory, f"{program.load:.1f}"]


def _costs(seconds: float, cpu_seconds: float, yardstick: float | None) -> list[str]:
    over = "" if yardstick is None else f"{cpu_seconds / yardstick:.2f}"
    return [f"{seconds:.1f}", f"{cpu_seconds:.1f}", over]


def _asked(session: Session) -> list[Row]:
    """Ratios to the code before, and memory."""
    found = []
    for command, shares in MOST.items():
        for kind, most in zip(("cold", "warm"), shares, strict=True):
            own = session.best(kind, command).program
            if session.before is not None:
                what = f"{TITLES[command]}, {kind}: share of the time before"
                found.append(ratio_row(what, own, session.best("before", command).program, most))
    peak = session.best("cold", "laplace").program
    measured = (
        f"{peak.peak_bytes / GIGABYTE:.2f} GB; all its processes {peak.together_bytes / GIGABYTE:.2f} GB"
    )
    holds = bool(peak.together_bytes <= MOST_GIGABYTES * GIGABYTE)
    return [*found, Row("Laplace, cold: peak memory", f"at most {MOST_GIGABYTES:.0f} GB", measured, holds)]


def ratio_row(what: str, own: Finished, other: Finished, most: float | None) -> Row:
    """Row of one program's time over another's; processor time decides, which other programs disturb least."""
    wall, cpu = own.seconds / other.seconds, own.cpu_seconds / other.cpu_seconds
    asked = "" if most is None else f"at most {most:.2g}"
    measured = (
        f"{cpu:.2f} of the processor time ({own.cpu_seconds:.0f} s over {other.cpu_seconds:.0f} s), "
        f"{wall:.2f} of the wall time ({own.seconds:.0f} s over {other.seconds:.0f} s)"
    )
    return Row(what, asked, measured, None if most is None else bool(cpu <= most))


def _health(session: Session, kinds: Sequence[Any]) -> list[Row]:
    """R-hat and effective sample size by NUTS: they must be what they were."""
    found = []
    for kind in kinds:
        health = session.best(kind, "nuts").record["diagnostics"]
        measured = f"R-hat at most {health['rhat_max']:.3f}, ESS at least {health['ess_bulk_min']:.0f}"
        found.append(Row(f"NUTS, {kind}: convergence", "as before", measured, None))
    return found


def stages_part(session: Session, repeat: int) -> Part:
    """Stage by stage by Laplace and NUTS, each with the least time that its products would take."""
    texts = []
    for command in ("laplace", "nuts"):
        out, programs = (
            session.new(f"watched-{command}"),
            copied(session.filled(command), session.new("programs")),
        )
        arguments = [str(part) for part in (*session.arguments(command), "--out", out)]
        answer = watched({"commands": [arguments], "work": True, "rates": True}, programs)[1]
        cold, warm = (session.best(kind, command) for kind in ("cold", "warm"))
        texts.append(f"{TITLES[command]}:\n\n{stage_table(cold, warm, answer)}\n\n{limit_text(answer)}")
    return Part("\n\n".join(texts), [])


def stage_table(cold: Timed, warm: Timed, answer: dict[str, Any]) -> str:
    """Write what each stage took, and its limit."""
    headings = ("stage", "cold: wall, s", *(f"warm: {cost}" for cost in COSTS), "GB by its end")
    work, rows = answer["commands"][0]["work"], []
    first, second = cold.stages, warm.stages
    for name, title in STAGES.items():
        if name in second:
            done = work.get(name, {"evaluations": 0.0, "flop": 0.0})
            limit = done["flop"] / answer["rate"]
            rows.append([title.rstrip(" ("), _seconds(first.get(name)), *_stage(second[name])])
            rows[-1] += [
                f"{done['evaluations']:.0f}" if done["evaluations"] else "",
                f"{limit:.2f}" if limit else "",
            ]
    rest = [one.program.seconds - sum(s.seconds for s in one.stages.values()) for one in (cold, warm)]
    total = sum(one["flop"] for one in work.values())
    evaluations = sum(one["evaluations"] for one in work.values())
    rows.append(["start, imports, end", *(f"{seconds:.1f}" for seconds in rest), "", "", "", ""])
    rows.append(
        [
            "in all",
            f"{cold.program.seconds:.1f}",
            *_costs(warm.program.seconds, warm.program.cpu_seconds, None)[:2],
            f"{warm.program.peak_bytes / GIGABYTE:.2f}",
            f"{evaluations:.0f}",
            f"{total / answer['rate']:.2f}",
        ]
    )
    return pages.table((*headings, "values and gradients", "limit, s"), rows)


def _seconds(stage: Stage | None) -> str:
    return "" if stage is None else f"{stage.seconds:.1f}"


def _stage(stage: Stage) -> list[str]:
    cpu = "" if stage.processor_s is None else f"{stage.processor_s:.1f}"
    return [
        f"{stage.seconds:.1f}",
        cpu,
        "" if stage.peak_bytes is None else f"{stage.peak_bytes / GIGABYTE:.2f}",
    ]


def limit_text(answer: dict[str, Any]) -> str:
    """Say what the limits are made of."""
    gradient, rate = answer["gradient"], answer["rate"]
    share = gradient["flop"] / gradient["seconds"] / rate
    return (
        f"The device's rate is {rate / 1e9:.0f} GFLOP/s (a float32 product of square matrices). At the mode a value "
        f"and gradient is {gradient['flop'] / 1e6:.0f} MFLOP over {gradient['parameters']} parameters and took "
        f"{1e3 * gradient['seconds']:.2f} ms, {100 * share:.0f} % of that rate."
    )


def second_map_part(session: Session, repeat: int) -> Part:
    """Another map after the real one, in a new process and in the same: nothing is compiled again."""
    spectrum_image, config = session.other_map
    first = session.arguments("laplace")
    other = ("unmix", spectrum_image, "--config", config, "--method", "laplace")
    programs = session.new("programs")
    cold, (first_alone,) = _watched(session, [first], programs)
    apart, (other_alone,) = _watched(session, [other], copied(programs, session.new("programs")))
    _, (first_of_two, second_of_two) = _watched(session, [first, other], session.new("programs"))
    headings = ("Laplace", *COSTS, "compilations", "longest, s", "in all, s")
    table = [
        _compiled_row("the 71 GPa map, cold", cold.seconds, cold.cpu_seconds, first_alone),
        _compiled_row("another map, in a new process", apart.seconds, apart.cpu_seconds, other_alone),
        *(
            _compiled_row(what, one["seconds"], one["cpu_seconds"], one)
            for what, one in (
                ("the 71 GPa map, imports included", first_of_two),
                ("another map, in the same process", second_of_two),
            )
        ),
    ]
    shares = (
        apart.cpu_seconds / cold.cpu_seconds,
        second_of_two["cpu_seconds"] / first_of_two["cpu_seconds"],
    )
    rows = [
        *second_rows("in a new process", other_alone["compilations"], shares[0]),
        *second_rows("in the same process", second_of_two["compilations"], shares[1]),
    ]
    return Part(pages.table(headings, table), rows)


def _watched(
    session: Session, commands: Sequence[Sequence[str | Path]], programs: Path
) -> tuple[Finished, list[dict[str, Any]]]:
    """Run commands in one process, each into a new folder."""
    job = {"commands": [[*map(str, command), "--out", str(session.new("watched"))] for command in commands]}
    program, answer = watched(job, programs)
    return program, answer["commands"]


def _compiled_row(what: str, seconds: float, cpu_seconds: float, answer: dict[str, Any]) -> list[str]:
    took = answer["compilations"]
    compiled = [str(len(took)), f"{max(took, default=0.0):.2f}", f"{sum(took):.1f}"]
    return [what, *_costs(seconds, cpu_seconds, None)[:2], *compiled]


def second_rows(where: str, compilations: list[float], share: float) -> list[Row]:
    """Rows of a second map: its longest compilation, and its share of the first one's processor time."""
    longest = max(compilations, default=0.0)
    over = sum(seconds > LONGEST_COMPILATION for seconds in compilations)
    return [
        Row(
            f"second map {where}: compilations",
            f"none above {LONGEST_COMPILATION} s",
            f"{over} above, of {len(compilations)}; the longest {longest:.2f} s",
            over == 0,
        ),
        Row(
            f"second map {where}: share of the first one's processor time",
            f"at most {SECOND_MAP}",
            f"{share:.2f}",
            bool(share <= SECOND_MAP),
        ),
    ]


def phases_part(session: Session, repeat: int) -> Part:
    """Eight phases, and their number left to the map, against the three that are declared."""
    three = session.best("cold", "laplace").program
    found = [("three declared phases", three)]
    for what, phases in (("eight phases", str(MANY_PHASES)), ('`phases = "auto"`', '"auto"')):
        config = session.new("phases.toml")
        config.write_text(with_phases(CONFIG.read_text(encoding="utf-8"), phases), encoding="utf-8")
        arguments = ("unmix", session.real_map, "--config", config, "--method", "laplace")
        done = timed(arguments, session.new("phases"), session.this, session.new("programs"))
        found.append((what, done.program))
    headings = ("Laplace, cold", *COSTS, "of three phases", "GB", "GB together", "others' load")
    rows = [
        ratio_row(f"{what}: times three phases", program, three, MOST_FOR_MANY) for what, program in found[1:]
    ]
    table = [_cost_row(what, program, three.cpu_seconds) for what, program in found]
    return Part(pages.table(headings, table), rows)


def with_phases(config: str, phases: str) -> str:
    """Put a number of phases in the place of the tables that declare them, which end a configuration."""
    head, _, _ = config.partition("[[phases]]")
    return f"phases = {phases}\n{head}"
