"""The 71 GPa map through the command line: time, memory, convergence, agreement of seeds and the chemistry."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from bench import BAYESUNMIX, FINISHED, GIGABYTE, Finished, Options, Row, last_line, run_program

from bayesunmix.results.record import RunRecord

CONFIG = Path(__file__).resolve().with_suffix(".toml")
MAP = "71GPa_subsolidus.hspy"


@dataclass(frozen=True)
class Run:
    """One run of the command and the tables that it wrote."""

    program: Finished
    folder: Path

    def table(self, name: str) -> pd.DataFrame:
        """Return a table; ``true`` stays the text that it is."""
        return pd.read_csv(self.folder / name, dtype={"detected": str})

    @property
    def record(self) -> RunRecord:
        """What ``run.json`` holds."""
        return RunRecord.of(json.loads((self.folder / "run.json").read_text(encoding="utf-8")))


def unmix(options: Options, method: str, seed: int) -> Run:
    """Unmix the map into a new folder.

    Raises
    ------
    RuntimeError
        If the run does not finish.
    """
    folder = options.work / f"real_map_{method}_{seed}"
    arguments = ("--config", CONFIG, "--out", folder, "--method", method, "--seed", str(seed))
    program = run_program((*BAYESUNMIX, "unmix", options.file(MAP), *arguments))
    if program.code not in FINISHED:
        raise RuntimeError(f"{method}, seed {seed}: exit {program.code}, {last_line(program.stderr)}")
    return Run(program, folder)


def rows(options: Options) -> list[Row]:
    """Rows of the real map: NUTS with two or four seeds, and Laplace."""
    laplace = unmix(options, "laplace", 0)
    nuts = [unmix(options, "nuts", seed) for seed in range(2 if options.quick else 4)]
    return [
        *cost_rows("NUTS, 2 x (500 + 500)", nuts[0], most_seconds=100, goal=45),
        *cost_rows("Laplace", laplace, most_seconds=30, goal=15),
        *health_rows(nuts),
        agreement_row(nuts),
        *chemistry_rows("NUTS", nuts[0]),
        *chemistry_rows("Laplace", laplace),
        Row("maps that look like the three phases", "look", f"{nuts[0].folder.name}/figures in --keep", None),
    ]


def cost_rows(what: str, run: Run, *, most_seconds: int, goal: int) -> list[Row]:
    """Time and memory of a run."""
    program = run.program
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.record.timings.items())
    peak = program.peak_bytes / GIGABYTE
    return [
        Row(
            f"{what}: command to last file",
            f"at most {most_seconds} s (goal {goal} s)",
            f"{program.seconds:.1f} s ({program.cpu_seconds:.0f} s of processor time; {stages})",
            program.seconds <= most_seconds,
        ),
        Row(f"{what}: peak memory", "at most 2 GB (goal 1 GB)", f"{peak:.2f} GB", peak <= 2.0),
    ]


def health_rows(runs: list[Run]) -> list[Row]:
    """Convergence of every reported quantity, the worst over the runs."""
    tables = [run.table(name) for run in runs for name in ("composition.csv", "partition.csv")]
    rhat = max(float(table["rhat"].max()) for table in tables)
    bulk = min(float(table["ess_bulk"].min()) for table in tables)
    diverging = sum(run.record.diagnostics.divergences or 0 for run in runs)
    over = f"over {len(runs)} seeds"
    records = [run.record for run in runs]
    fit = records[0].fit
    deviance = (
        f"total {fit.deviance_per_dof_total:.2f}, segments {fit.deviance_per_dof_segments:.2f}" if fit else ""
    )
    modes = [sum(not start.same_mode for start in record.starts) for record in records]
    said = sorted({problem for record in records for problem in record.judgement().texts("distrust")})
    return [
        Row(f"worst R-hat {over}", "at most 1.01", f"{rhat:.4f}", rhat <= 1.01),
        Row(f"least bulk ESS {over}", "at least 400", f"{bulk:.0f}", bulk >= 400),
        Row(f"divergences {over}", "none", str(diverging), diverging == 0),
        Row("trusted by its own diagnostics", "exit 0", "; ".join(said) or "exit 0", not said),
        Row("deviance per degree of freedom", "", deviance, None),
        Row(
            "starts that end in another mode, by seed",
            "",
            f"{modes} of {len(records[0].starts)}",
            None,
        ),
    ]


def agreement_row(runs: list[Run]) -> Row:
    """Whether each seed's means lie in every other seed's intervals, and what is detected stays detected."""
    outside: list[str] = []
    judged = 0
    for one, other in itertools.permutations(runs, 2):
        for name, keys in (
            ("composition.csv", ["phase", "element"]),
            ("partition.csv", ["numerator", "denominator", "element"]),
        ):
            both = one.table(name).merge(other.table(name), on=keys, suffixes=("", "_other"))
            both = both.dropna(subset=["mean", "lower_other", "upper_other"])
            inside = both["mean"].between(both["lower_other"], both["upper_other"])
            judged += len(both)
            outside += ["/".join(row) for row in both.loc[~inside, keys].itertuples(index=False)]
    states = [tuple(run.table("composition.csv")["detected"]) for run in runs]
    flips = sum(len(set(state)) > 1 for state in zip(*states, strict=True))
    measured = f"{judged - len(outside)} of {judged} means inside"
    if outside:
        measured += f" (not {', '.join(sorted(set(outside)))})"
    if flips:
        measured += f"; detection differs between seeds for {flips}"
    return Row(f"{len(runs)} seeds agree within their intervals", "all means", measured, not outside)


def chemistry_rows(what: str, run: Run) -> list[Row]:
    """Rows of what is known of the sample: U in bridgmanite, partition coefficients, site balance."""
    composition = run.table("composition.csv").set_index(["phase", "element"])
    uranium = composition.loc["Brg", "U"]
    figures = f"{uranium['median']:.3g} [{uranium['lower']:.3g}, {uranium['upper']:.3g}]"
    found = uranium["detected"] == "true" and uranium["lower"] > 0
    x = composition.loc["Brg"]["mean"]
    ratio = (x["Mg"] + x["Fe"] + x["Ca"] + x["Al"] / 2) / (x["Si"] + x["Al"] / 2)
    return [
        Row(f"{what}: U in Brg, atom fraction", "detected, lower above 0", figures, bool(found)),
        *(_partition_row(what, run, element) for element in ("Nd", "Sm", "U")),
        Row(f"{what}: site ratio of Brg", "0.9 to 1.1", f"{ratio:.3f}", bool(0.9 <= ratio <= 1.1)),
    ]


def _partition_row(what: str, run: Run, element: str) -> Row:
    table = run.table("partition.csv").set_index(["numerator", "denominator", "element"])
    row = table.loc["CaPv", "Brg", element]
    figures = f"{row['median']:.3g} [{row['lower']:.3g}, {row['upper']:.3g}] ({row['kind']})"
    return Row(f"{what}: D(CaPv/Brg) of {element}", "above 1", figures, bool(row["lower"] > 1.0))
