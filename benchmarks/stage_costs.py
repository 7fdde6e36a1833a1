"""Stage by stage: what each takes, and the least that its matrix products would take on this machine."""

from __future__ import annotations

from typing import Any

import pages
from bench import GIGABYTE
from command_costs import TIMES, TITLES, Part, costs
from sessions import Session
from timed import STAGES, Stage, Timed, watched

NO_WORK = {"evaluations": 0.0, "flop": 0.0}


def stages_part(session: Session) -> Part:
    """Count the products of every stage in a run of its own, since that takes time, and put them beside the times."""
    texts = []
    for command in [command for command in session.commands if command != "demo"]:
        cold, warm = session.best("cold", command), session.best("warm", command)
        programs = session.programs(session.filled(command))
        arguments = [*session.arguments(command), "--out", session.new(f"watched-{command}")]
        _, answer = watched({"commands": [[*map(str, arguments)]], "work": True, "rates": True}, programs)
        texts.append(f"{TITLES[command]}:\n\n{stage_table(cold, warm, answer)}\n\n{limit_text(answer)}")
    return Part("\n\n".join(texts), [])


def stage_table(cold: Timed, warm: Timed, answer: dict[str, Any]) -> str:
    """Write what each stage took, and its limit."""
    work, rate = answer["commands"][0]["work"], answer["rate"]
    first, second = cold.stages, warm.stages
    rows = [
        [
            title.rstrip(" ("),
            *_times(first.get(name))[:1],
            *_times(second[name]),
            *_limit(work.get(name, NO_WORK), rate),
        ]
        for name, title in STAGES.items()
        if name in second
    ]
    rest = [one.program.seconds - sum(stage.seconds for stage in one.stages.values()) for one in (cold, warm)]
    total = {key: sum(done[key] for done in work.values()) for key in NO_WORK}
    whole = warm.program
    rows += [
        ["start, imports, end", *(f"{seconds:.1f}" for seconds in rest), "", "", "", ""],
        [
            "in all",
            f"{cold.program.seconds:.1f}",
            *costs(whole.seconds, whole.cpu_seconds),
            f"{whole.peak_bytes / GIGABYTE:.2f}",
            *_limit(total, rate),
        ],
    ]
    headings = ("stage", f"cold: {TIMES[0]}", *(f"warm: {time}" for time in TIMES), "GB by its end")
    return pages.table((*headings, "values and gradients", "limit, s"), rows)


def _times(stage: Stage | None) -> list[str]:
    """Write wall time, processor time and memory, as far as they are known."""
    if stage is None:
        return ["", "", ""]
    cpu, held = stage.processor_s, stage.peak_bytes
    return [
        f"{stage.seconds:.1f}",
        "" if cpu is None else f"{cpu:.1f}",
        "" if held is None else f"{held / GIGABYTE:.2f}",
    ]


def _limit(work: dict[str, float], rate: float) -> list[str]:
    evaluations, seconds = work["evaluations"], work["flop"] / rate
    return [f"{evaluations:.0f}" if evaluations else "", f"{seconds:.2f}" if seconds else ""]


def limit_text(answer: dict[str, Any]) -> str:
    """Say what the limits are made of."""
    gradient, rate = answer["gradient"], answer["rate"]
    share = gradient["flop"] / gradient["seconds"] / rate
    return (
        f"The machine multiplied float32 matrices at {rate / 1e9:.0f} GFLOP/s. At the mode a value and gradient is "
        f"{gradient['flop'] / 1e6:.0f} MFLOP, over {gradient['parameters']} parameters; one at a time took "
        f"{1e3 * gradient['seconds']:.2f} ms, {100 * share:.0f} % of that rate."
    )
