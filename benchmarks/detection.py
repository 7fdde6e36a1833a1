"""Trace detection on maps like the 71 GPa one: false positives on true zeros, power from 10 to 3000 ppm, coverage.

Every map is the embedded phantom at the size of the 71 GPa map, with line strengths and thickness off by draws of their
priors and with trace contents of its own: each trace of each phase runs through `LEVELS_PPM`, from an offset of its
own, so that every ten maps hold every pair of phase and element at every level once, and at zero four times. Majors
make room in proportion. Each map goes through the whole run; what is judged are its reported decisions and intervals.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row, told

from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.simulation import SimulatedPhase
from bayesunmix.laboratory.assessment import Assessment, assess, decisions
from bayesunmix.laboratory.coverage import CENTRAL, LEVELS, LOWER, NONE, UPPER, share_limits
from bayesunmix.laboratory.replicates import Replicate, Study, run_study
from bayesunmix.simulation.simulate import SimulatedMap

FloatArray = npt.NDArray[np.float64]

TRACES = ("Nd", "Sm", "Lu", "Hf", "U")
LEVELS_PPM = (0.0, 10.0, 0.0, 30.0, 0.0, 100.0, 0.0, 300.0, 1000.0, 3000.0)
# Pixels along a side of the 71 GPa map.
SIDE = 201
REPLICATES = {"full": 60, "quick": 10}
MOST_FALSE = 0.05
LEAST_POWER, POWER_PPM, POWER_OF = 0.9, 300.0, ("Nd", "Sm", "Lu", "U")
COUNTING = "counting: "


def with_traces(phase: SimulatedPhase, traces: Mapping[str, float]) -> SimulatedPhase:
    """Give a phase these traces in place of its own; majors make room in proportion."""
    majors = {element: x for element, x in phase.composition.items() if element not in TRACES}
    room = (1.0 - sum(traces.values())) / sum(majors.values())
    return dataclasses.replace(phase, composition={e: x * room for e, x in majors.items()} | dict(traces))


@dataclass(frozen=True)
class Simulate:
    """A phantom whose traces change from map to map."""

    side: int
    method: str

    def config(self, seed: int) -> RunConfig:
        """Return the configuration of one map, its truth included."""
        from bayesunmix.simulation.phantom import phantom_config

        declared = phantom_config()
        # Offsets are drawn anew for every run through the levels.
        offsets = np.random.default_rng([seed // len(LEVELS_PPM), 40]).integers(
            len(LEVELS_PPM), size=(len(declared.simulated_phases), len(TRACES))
        )
        phases = []
        for phase, offset in zip(declared.simulated_phases, offsets, strict=True):
            ppm = [LEVELS_PPM[(seed + start) % len(LEVELS_PPM)] for start in offset]
            traces = {element: 1e-6 * amount for element, amount in zip(TRACES, ppm, strict=True)}
            phases.append(with_traces(phase, traces))
        plan = dataclasses.replace(declared.simulate, shape=(self.side, self.side), calibration_error=True)
        inference = dataclasses.replace(declared.inference, method=self.method)
        return dataclasses.replace(
            declared, simulated_phases=tuple(phases), simulate=plan, inference=inference
        )

    def __call__(self, seed: int) -> tuple[dict[str, float], tuple[SimulatedMap, RunConfig]]:
        """Return the truth by quantity, and the map."""
        from bayesunmix.simulation.simulate import simulate_map

        config = self.config(seed)
        simulated = simulate_map(config, seed)
        truth = simulated.truth
        known = {}
        for k, phase in enumerate(truth.phases):
            for i, element in enumerate(truth.elements):
                known[f"{element} in {phase}"] = known[f"{COUNTING}{element} in {phase}"] = truth.composition[
                    k, i
                ]
        for k, numerator in enumerate(truth.phases):
            for j, denominator in enumerate(truth.phases[:k]):
                for i, element in enumerate(truth.elements):
                    if truth.composition[[j, k], i].min() > 0.0:
                        known[f"D {element} {numerator}/{denominator}"] = (
                            truth.composition[k, i] / truth.composition[j, i]
                        )
        return known, (simulated, config)


@dataclass(frozen=True)
class Infer:
    """The whole run on a map."""

    def __call__(self, data: tuple[SimulatedMap, RunConfig], seed: int) -> dict[str, FloatArray]:
        """Return draws of every composition, with and without calibration, and partition coefficient."""
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        simulated, config = data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            result = run_image(simulated.image, config, None, seed=seed, progress=False)
        posterior = result.tree["posterior"]
        absent = {phase.name: phase.absent for phase in config.phases}
        found = {}
        for prefix, name in (("", "composition"), (COUNTING, "composition_counting")):
            draws = posterior[name].stack(both=("chain", "draw"))
            for phase in draws["phase"].values:
                for element in draws["element"].values:
                    if element not in absent[phase]:
                        found[f"{prefix}{element} in {phase}"] = draws.sel(
                            phase=phase, element=element
                        ).values
        names = list(absent)
        for k, numerator in enumerate(names):
            for denominator in names[:k]:
                for element in config.sample.elements:
                    if element not in (*absent[numerator], *absent[denominator]):
                        found[f"D {element} {numerator}/{denominator}"] = (
                            found[f"{element} in {numerator}"] / found[f"{element} in {denominator}"]
                        )
        return found


def reported(replicate: Replicate) -> npt.NDArray[np.str_]:
    """Kind of interval that a run reports of each quantity: what is not detected has an upper bound."""
    from bayesunmix.chemistry.detection import detect

    draws = dict(zip(replicate.names, replicate.draws, strict=True))
    counting = [name for name in draws if name.startswith(COUNTING)]
    there = detect(np.stack([draws[name] for name in counting], axis=1)).detected
    present = {name.removeprefix(COUNTING): bool(found) for name, found in zip(counting, there, strict=True)}
    kinds = []
    for name in replicate.names:
        if not name.startswith("D "):
            kinds.append(CENTRAL if present[name.removeprefix(COUNTING)] else UPPER)
            continue
        _, element, pair = name.split(" ")
        top, bottom = (present[f"{element} in {phase}"] for phase in pair.split("/"))
        kinds.append(
            {(True, True): CENTRAL, (False, True): UPPER, (True, False): LOWER}.get((top, bottom), NONE)
        )
    return np.array(kinds, dtype="<U12")


def study(side: int = SIDE, method: str = "laplace") -> Study:
    """Return the study of whole runs."""
    return Study(Simulate(side, method), Infer(), {"maps": "detection", "side": side, "method": method})


def traces(assessed: Assessment) -> pd.DataFrame:
    """Rows of the traces' decisions, with columns element, phase and ppm."""
    long = assessed.long[~assessed.long["quantity"].str.startswith((COUNTING, "D "))]
    names = long["quantity"].str.split(" in ", expand=True)
    rows = long.assign(element=names[0], phase=names[1], ppm=(1e6 * long["truth"]).round(3))
    return rows[rows["element"].isin(TRACES)]


def rows(options: Options) -> list[Row]:
    """Rows of detection and coverage; tables by phase, element and amount are printed on the way."""
    n = REPLICATES["quick" if options.quick else "full"]
    folder = options.work / "detection"
    replicates = run_study(study(), folder, n, processes=options.processes, progress=told)
    assessed = assess(replicates, kinds=reported)
    write_tables(assessed, folder)
    return [*detection_rows(assessed), *coverage_rows(assessed)]


def write_tables(assessed: Assessment, folder: Path) -> None:
    """Write decisions by phase, element and amount, coverage, and the power curve, and print the last."""
    from bayesunmix.laboratory.figures import plot_power

    found = traces(assessed)
    decisions(found, ["phase", "element", "ppm"]).sort_values(["phase", "element", "ppm"]).to_csv(
        folder / "decisions.csv", index=False
    )
    curve = decisions(found, ["phase", "ppm"]).sort_values(["phase", "ppm"])
    print(curve.to_string(index=False, float_format=lambda value: f"{value:.3g}"))
    assessed.table.to_csv(folder / "coverage.csv", index=False)
    plot_power(curve).savefig(folder / "power.png", dpi=200)


def detection_rows(assessed: Assessment) -> list[Row]:
    """Rows of false positives and power."""
    found = traces(assessed)
    zero = found[found["ppm"] == 0.0]
    result = [_share_row("false positives on true zeros", zero, most=MOST_FALSE)]
    for keys in (["phase"], ["element"]):
        shares = decisions(zero, keys)
        said = ", ".join(
            f"{row[0]} {row.detected}/{row.replicates}" for row in shares.itertuples(index=False)
        )
        result.append(Row(f"false positives by {keys[0]}", "", said, None))
    matrix = found[(found["phase"] == "Brg") & (found["ppm"] == POWER_PPM)]
    for element in POWER_OF:
        what = f"power at {POWER_PPM:g} ppm of {element} in the matrix"
        result.append(_share_row(what, matrix[matrix["element"] == element], least=LEAST_POWER))
    return result


def _share_row(
    what: str, rows: pd.DataFrame, *, most: float | None = None, least: float | None = None
) -> Row:
    """Row of a share of detections that must not exceed, or must reach, a figure."""
    held, of = int((rows["kind"] == CENTRAL).sum()), len(rows)
    share = held / of if of else np.nan
    low, high = share_limits(held, of)
    asked = f"at most {most:g}" if most is not None else f"at least {least:g}"
    holds = share <= most if most is not None else share >= float(least or 0.0)
    return Row(what, asked, f"{share:.3f} ({held} of {of}; 95 % limits {low:.3f} to {high:.3f})", bool(holds))


def coverage_rows(assessed: Assessment) -> list[Row]:
    """Rows of the coverage of reported intervals at every level, of compositions and of partition coefficients."""
    long = assessed.long[~assessed.long["quantity"].str.startswith(COUNTING)]
    long = long[long["kind"] != NONE]
    ratio = long["quantity"].str.startswith("D ")
    result = []
    for what, part in (
        ("compositions, zeros included", long[~ratio]),
        ("compositions that are not zero", long[~ratio & (long["truth"] > 0.0)]),
        ("partition coefficients", long[ratio]),
    ):
        said = ", ".join(f"{100 * x:g} %: {part[f'held_{100 * x:g}'].mean():.3f}" for x in LEVELS)
        result.append(Row(f"coverage by level, {what} ({len(part)} intervals)", "", said, None))
    failed = Row("maps that fail", "none", str(len(assessed.failures)), not assessed.failures)
    return [*result, failed]
