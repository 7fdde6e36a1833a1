"""Coverage on the abundances of the 71 GPa sample, where two of three phases are pure nowhere: 100 maps.

Phases are those of the embedded phantom with other traces in every map: Nd, Sm, Lu, Hf and U in bridgmanite and
ferropericlase, and in every second map in Ca-perovskite, from 30 to 1000 atomic ppm, drawn on a log scale; other maps
keep Ca-perovskite's 0.1 to 2 at%. Line strengths and thickness are off by draws of their priors. The whole run with
Laplace unmixes each map. Beside the intervals' widths stands the bound of Cramer and Rao (`information_bound`).
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from detection import TRACES, with_traces
from grown_phantom import measured_abundances
from information_bound import least_sd
from phantom_coverage import overall_row, phantom, show

from bayesunmix.laboratory.coverage import share_limits
from bayesunmix.laboratory.maps import Findings, KeptMap, gathered, held_share, kept_maps, reported_intervals

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import SimulatedMap, Source

LEAST_PPM, MOST_PPM = 30.0, 1000.0
REPLICATES = (100, 4)
COVERAGE, LEAST_PAIR = (0.93, 0.97), 0.88
# Half widths of the central 95 % interval of a normal, in standard deviations.
NORMAL_95 = 1.96
LEAST_CLEAN = 19 / 20
KEPT_OF_RECORD = ("unmodelled_regions", "heterogeneity", "fit")


def rows(options: Options) -> list[Row]:
    """Rows of coverage and widths; the table of every phase and element is printed on the way."""
    count = REPLICATES[1 if options.quick else 0]
    data = options.file("maps_71GPa_like.npz").parent
    maps = kept_maps(
        Look(data),
        range(count),
        options.work / "measured_layout",
        {"maps": "measured_layout"},
        options.processes,
    )
    table, failures = gathered(maps)
    show(f"abundances of the 71 GPa sample, {count} maps", table)
    found = []
    for quantity, plural in (("composition", "compositions"), ("partition", "partition coefficients")):
        found += coverage_rows(f"{count} maps, {plural}", table[table["quantity"] == quantity])
    return [*found, *width_rows(table), *verdict_rows(maps, failures)]


@dataclass(frozen=True)
class Look:
    """Draws the map of a seed, unmixes it, and puts the intervals beside truth and bound.

    Parameters
    ----------
    data
        Folder that holds the abundances.
    """

    data: Path

    def __call__(self, seed: int) -> Findings:
        """Return intervals, widths and what the checks say."""
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image
        from bayesunmix.simulation.simulate import simulate_map

        config = drawn_traces(phantom("laplace"), seed)
        sources: list[Source] = []

        def remembered(source: Source) -> Source:
            sources.append(source)
            return source

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            simulated = simulate_map(
                config, seed, abundances=measured_abundances(self.data), departure=remembered
            )
            result = run_image(simulated.image, config, None, seed=seed, progress=False)
        table = reported_intervals(result, simulated.truth)
        table = with_widths(table, result, simulated, sources[0], config)
        record = result.record.to_dict()
        return Findings(table, result.problems, {name: record[name] for name in KEPT_OF_RECORD})


def drawn_traces(declared: RunConfig, seed: int) -> RunConfig:
    """Give the phases traces of this seed; majors make room in proportion."""
    rng = np.random.default_rng([seed, 71])
    phases = []
    for phase in declared.simulated_phases:
        ppm = np.exp(rng.uniform(np.log(LEAST_PPM), np.log(MOST_PPM), len(TRACES)))
        rich = phase.name == "CaPv" and seed % 2 == 1
        traces = {
            element: phase.composition[element] if rich else 1e-6 * amount
            for element, amount in zip(TRACES, ppm.tolist(), strict=True)
        }
        phases.append(with_traces(phase, traces))
    return dataclasses.replace(declared, simulated_phases=tuple(phases))


def with_widths(
    table: pd.DataFrame, result: Result, simulated: SimulatedMap, source: Source, config: RunConfig
) -> pd.DataFrame:
    """Add to each composition the width of the interval of counting alone, and that of the least error.

    Counting alone takes line strengths as nominal: where they are off by factors f, it estimates x f / sum x f, and the
    least error is turned into that of these fractions by d ln(x / (1 - x)), which a factor does not change.
    """
    truth, level = simulated.truth, result.level
    counting = result.tree["posterior"]["composition_counting"]
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    lower, upper = counting.quantile(tails, dim=("chain", "draw")).values
    absent = np.array([[element in phase.absent for element in truth.elements] for phase in config.phases])
    used = np.isfinite(result.tree["endmembers"]["mean"].values[0])
    counts = float(simulated.image.counts.sum(axis=2, dtype=np.int64).mean())
    families = result.tree["constant_data"]["calibration_family"].values
    factors = np.array(
        [truth.line_factors[f"{e}_{f}"] for e, f in zip(truth.elements, families, strict=True)]
    )
    total = (truth.composition @ factors)[:, None]
    others = np.maximum(1.0 - truth.composition * factors / total, 0.0) / (1.0 - truth.composition)
    least = 2.0 * NORMAL_95 * least_sd(source, truth, counts, absent, used) * factors / total * others

    def of(array: npt.NDArray[np.float64]) -> list[float]:
        return [
            float(array[truth.phases.index(row.phase), truth.elements.index(row.element)])
            if row.quantity == "composition"
            else np.nan
            for row in table.itertuples()
        ]

    return table.assign(counting_width=of(upper - lower), least_width=of(least))


def coverage_rows(what: str, table: pd.DataFrame) -> list[Row]:
    """Rows of the share that holds the truth, over all and of the pair where it is lowest."""
    low, high = COVERAGE
    overall = overall_row(what, table, low)
    counted = held_share(table)
    share = counted["held"].sum() / counted["of"].sum()
    # Bounds hold small amounts nearly always; the ceiling is meant for intervals, which end above zero on both sides.
    central = table[(table["lower"] > 0.0) & np.isfinite(table["upper"].astype(float))]
    held, of = int(central["inside"].sum()), len(central)
    limits = "{:.3f} to {:.3f}".format(*share_limits(held, of))
    worst = counted.assign(share=counted["held"] / counted["of"]).sort_values("share").iloc[0]
    within = share >= low and held / of <= high
    return [
        dataclasses.replace(overall, asked=f"{low} to {high}", holds=bool(within)),
        Row(
            f"{what}, central intervals alone", "", f"{held / of:.3f} ({held} of {of}; 95 % limits {limits})"
        ),
        Row(
            f"{what}: lowest pair of phase and element",
            f"at least {LEAST_PAIR}",
            f"{worst['share']:.2f} ({worst['phase']} {worst['element']}, {worst['held']} of {worst['of']})",
            bool(worst["share"] >= LEAST_PAIR),
        ),
    ]


def width_rows(table: pd.DataFrame) -> list[Row]:
    """Rows of the median widths beside the bound's, by phase, for elements that are detected."""
    there = table[(table["quantity"] == "composition") & (table["lower"] > 0.0)]
    kind = np.where(there["element"].isin(TRACES), "traces", "majors")
    found = []
    for (phase, what), rows in there.groupby(["phase", kind], sort=False):
        counting = rows["counting_width"] / rows["least_width"]
        all_in = (rows["upper"] - rows["lower"]) / rows["least_width"]
        said = f"{counting.median():.2f} (counting alone), {all_in.median():.2f} (with calibration and absorption)"
        found.append(Row(f"{phase}, {what}: median width over the bound of Cramer and Rao", "", said))
    return found


def verdict_rows(maps: list[KeptMap], failures: list[str]) -> list[Row]:
    """Rows of what the runs say of themselves; every phase of these maps is declared and even."""
    finished = [kept.findings.facts for kept in maps if kept.findings is not None and kept.findings.facts]
    clean = sum(not facts["unmodelled_regions"]["regions"] for facts in finished)
    used = sum(facts["heterogeneity"]["widened"] for facts in finished)
    suspect = sorted({failure.split(":")[0] for failure in failures})
    return [
        Row("maps that finish", f"{len(maps)}", f"{len(finished)}", len(finished) == len(maps)),
        Row("maps that say not to trust them", "", f"{len(suspect)}: {'; '.join(failures)}"),
        Row(
            "maps in which no place is flagged",
            f"at least {LEAST_CLEAN:g}",
            f"{clean} of {len(finished)}",
            clean >= LEAST_CLEAN * len(finished),
        ),
        Row("maps that use robust intervals", "", f"{used} of {len(finished)}"),
    ]
