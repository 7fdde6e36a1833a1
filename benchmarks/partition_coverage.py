"""Coverage of partition coefficients on simulated posteriors: D from 0.001 to 1000 and true zeros on either side.

Two phases hold one element for every D. Counts over a background are drawn for each, and what the unmixing would give
for them: a flat prior on the signal and Poisson counts over a known background, a gamma truncated at the background.
Line strengths are off by a draw of the prior that the compositions are drawn with, so that what does not cancel counts,
too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from bench import Options, Row
from scipy.stats import gamma

from bayesunmix.chemistry.ratios import amounts, partition_rows

FloatArray = npt.NDArray[np.float64]

TRUE_D = (0.0, *(10.0 ** np.linspace(-3.0, 3.0, 13)), np.inf)
LEVEL = 0.95
CHAINS, DRAWS = 2, 500
CALIBRATION_SD = 0.1
# Share of the atoms of an element in the phase that prefers it.
RICH = 0.01
REPLICATES = (200, 20)
COVERAGE, BOUNDS = (0.93, 0.97), 0.95
# Zeros that noise makes resolved: 5 % detected, one in forty of those resolved.
ZEROS_AS_INTERVALS = 0.004
# Signal over its noise: of the poorer of the two amounts.
BANDS = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, np.inf)


@dataclass(frozen=True)
class Setting:
    """How well the two phases are counted.

    Attributes
    ----------
    name
        For the table.
    counts
        Counts of all atoms in the numerator and in the denominator.
    background
        Counts below each element's lines in either.
    """

    name: str
    counts: tuple[float, float]
    background: tuple[float, float]


SETTINGS = (
    Setting("good counts", (3e5, 3e5), (100.0, 100.0)),
    Setting("few counts", (3e4, 1e5), (30.0, 300.0)),
    Setting("no background to speak of", (1e5, 1e5), (3.0, 3.0)),
)


def rows(options: Options) -> list[Row]:
    """Rows of the table; coverage near the decision threshold is printed on the way."""
    replicates = REPLICATES[1 if options.quick else 0]
    found = []
    for number, setting in enumerate(SETTINGS):
        table = simulate(setting, replicates, seed=number)
        print(f"{setting.name}, {replicates} replicates\n{by_signal(table).to_string(index=False)}\n")
        found += setting_rows(setting.name, table)
    return found


def setting_rows(name: str, table: pd.DataFrame) -> list[Row]:
    """Rows of one setting."""
    intervals, bounds = table[table.kind == "interval"], table[table.kind.isin(["upper", "lower"])]
    # A zero has no interval that is right; how often it gets one is a row of its own.
    positive = intervals[(intervals.truth > 0.0) & np.isfinite(intervals.truth)]
    zeros = table[(table.truth == 0.0) | np.isinf(table.truth)]
    share, held = float(intervals.inside.mean()), float(bounds.inside.mean())
    wrong = float((zeros.kind == "interval").mean())
    against_rule = int((intervals.reason != "").sum())
    low, high = COVERAGE
    return [
        Row(
            f"D, {name}: coverage of {len(intervals)} intervals",
            f"{low} to {high}",
            f"{share:.3f} ({positive.inside.mean():.3f} of true ratios)",
            low <= share <= high,
        ),
        Row(f"D, {name}: bounds that hold, of {len(bounds)}", f"{BOUNDS}", f"{held:.3f}", held >= BOUNDS),
        Row(
            f"D, {name}: zeros given an interval",
            f"at most {ZEROS_AS_INTERVALS}",
            f"{wrong:.4f}",
            bool(wrong <= ZEROS_AS_INTERVALS + 3.0 * np.sqrt(ZEROS_AS_INTERVALS / len(zeros))),
        ),
        Row(f"D, {name}: intervals where the rule says bound", "0", f"{against_rule}", against_rule == 0),
    ]


def simulate(setting: Setting, replicates: int, seed: int) -> pd.DataFrame:
    """Return every partition coefficient of the replicates beside its truth.

    Returns
    -------
    pandas.DataFrame
        Columns truth, kind, lower, upper, width (log10), reason, inside (missing where undetermined), and signal, the
        expected signal of the poorer side over its noise.
    """
    rng = np.random.default_rng(seed)
    truth = np.array(TRUE_D)
    top = RICH * np.minimum(truth, 1.0)
    bottom = RICH * np.minimum(1.0, 1.0 / np.maximum(truth, 1e-300))
    traces = np.stack([top, bottom])
    fractions = np.concatenate([traces, 1.0 - traces.sum(axis=1, keepdims=True)], axis=1)
    true_d = np.append(fractions[0, :-1] / np.where(fractions[1, :-1] > 0, fractions[1, :-1], np.nan), 1.0)
    true_d[np.isinf(np.append(truth, 0.0))] = np.inf
    counts, background = (np.array(pair)[:, None] for pair in (setting.counts, setting.background))
    signal = (traces * counts / np.sqrt(traces * counts + background)).min(axis=0)
    found = []
    for _ in range(replicates):
        table = _replicate(rng, fractions, counts, background)
        table = table[table.element != "major"].reset_index(drop=True)
        table["truth"], table["signal"] = true_d[:-1], signal
        found.append(table)
    return _judged(pd.concat(found, ignore_index=True))


def _replicate(
    rng: np.random.Generator, fractions: FloatArray, counts: FloatArray, background: FloatArray
) -> pd.DataFrame:
    """Draw the counts of both phases and their posterior, and return the numerator's ratios to the denominator."""
    factor = np.exp(rng.normal(0.0, CALIBRATION_SD, fractions.shape[1]))
    observed = rng.poisson(fractions * factor * counts + background)
    # Uniform draws between the tail beyond the background and nothing, read back through the gamma's tail.
    tail = gamma.sf(background, observed + 1.0)
    uniform = rng.uniform(size=(CHAINS, DRAWS, *observed.shape))
    signal = np.maximum(gamma.isf(uniform * tail, observed + 1.0) - background, 0.0) / counts
    drawn = np.exp(rng.normal(0.0, CALIBRATION_SD, (CHAINS, DRAWS, 1, fractions.shape[1])))
    names = [*(f"{d:g}" for d in TRUE_D), "major"]
    arrays = [
        xr.DataArray(
            values / values.sum(axis=-1, keepdims=True),
            dims=("chain", "draw", "phase", "element"),
            coords={"phase": ["A", "B"], "element": names},
        )
        for values in (signal / drawn, signal)
    ]
    table = partition_rows(amounts(*arrays, {}, LEVEL))
    return table[table.numerator == "A"]


def _judged(table: pd.DataFrame) -> pd.DataFrame:
    inside = (table.lower <= table.truth) & (table.truth <= table.upper)
    table["inside"] = inside.where(table.kind != "undetermined")
    with np.errstate(divide="ignore", invalid="ignore"):
        table["width"] = np.log10(table.upper / table.lower).where(table.kind == "interval")
    columns = ["truth", "kind", "lower", "upper", "width", "reason", "inside", "signal"]
    return table[columns]


def by_signal(table: pd.DataFrame) -> pd.DataFrame:
    """Coverage of intervals and bounds by the signal of the poorer side: selection bites near the threshold."""
    lines = []
    for low, high in itertools.pairwise(BANDS):
        band = table[(table.signal >= low) & (table.signal < high)]
        if band.empty:
            continue
        intervals, bounds = band[band.kind == "interval"], band[band.kind.isin(["upper", "lower"])]
        lines.append(
            {
                "signal / noise": f"{low:g} to {high:g}",
                "ratios": len(band),
                "intervals": len(intervals),
                "hold": round(float(intervals.inside.astype(float).mean()), 3),
                "width, decades": round(float(intervals.width.median()), 2),
                "bounds": len(bounds),
                "bounds hold": round(float(bounds.inside.astype(float).mean()), 3),
            }
        )
    return pd.DataFrame(lines)
