"""Coverage of the trend of a series: four maps, partition coefficients with a slope over pressure.

Series are drawn at the level of the maps' posteriors: a truth for every map, amounts measured with a relative error and
calibration factors that all maps share, and the draws of a normal truncated at zero that such a measurement leaves.
They go through `bayesunmix.compare` as results of runs do. The scatter between maps is drawn from its prior, or fixed.

    python benchmarks/run.py --only series
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from scipy.stats import truncnorm

if TYPE_CHECKING:
    from bayesunmix.analysis.comparison import Comparison
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

PRESSURE_GPA = (40.0, 55.0, 71.0, 90.0)
PHASES = ("Brg", "CaPv")
MAJORS = {"Mg": (0.50, 0.0), "Si": (0.46, 0.48), "Ca": (0.03, 0.48)}
# Traces: amount in Brg, D(CaPv/Brg) at the centre, relative errors in Brg and CaPv.
TRACES = {
    "Nd": (4e-4, 50.0, 0.15, 0.05),
    "Sm": (5e-4, 30.0, 0.12, 0.05),
    "Lu": (9e-4, 5.0, 0.08, 0.08),
    "U": (2e-4, 40.0, 0.25, 0.08),
    "Hf": (1e-3, 0.8, 0.10, 0.45),
}
ELEMENTS = (*MAJORS, *TRACES)
CALIBRATION_SD = np.array([0.05, 0.05, 0.05, 0.10, 0.10, 0.10, 0.20, 0.10])
SLOPE_SD = 0.4  # of the true slopes, in ln D per standard deviation of pressure
DRAWS = (2, 500)
SERIES = (100, 10)
LEAST_COVERAGE = 0.93
THEORY_TOLERANCE = 0.15


def rows(options: Options) -> list[Row]:
    """Rows of coverage and width for scatters drawn from their prior and for fixed ones."""
    count = SERIES[1 if options.quick else 0]
    found = []
    for name, scatter in (("drawn from its prior", None), ("of 0.15", 0.15)):
        table = simulate(range(count), scatter)
        found += coverage_rows(f"{count} series, scatter {name}", table)
    return found


def simulate(seeds: range, scatter: float | None) -> pd.DataFrame:
    """Return slopes and widths beside truth and theory, one row for each series and trace."""
    import bayesunmix as bu

    tables = []
    for seed in seeds:
        results, truth = one_series(seed, scatter)
        names = [f"{pressure:g} GPa" for pressure in PRESSURE_GPA]
        comparison = bu.compare(results, names=names, covariate={"pressure_GPa": PRESSURE_GPA}, seed=seed)
        tables.append(judged(comparison, truth).assign(series=seed))
        print(f"  series {seed}: {len(comparison.problems)} problems", flush=True)
    return pd.concat(tables, ignore_index=True)


def standardised() -> FloatArray:
    """Pressure less its mean, in its standard deviations."""
    pressure = np.array(PRESSURE_GPA)
    return np.asarray((pressure - pressure.mean()) / pressure.std())


def one_series(seed: int, scatter: float | None) -> tuple[list[Result], dict[str, FloatArray]]:
    """Draw the results of four maps and their truth: slope, tau and ln D (map, trace)."""
    from bayesunmix.models.series import SCATTER_RATIO_SD, SCATTER_SD

    rng = np.random.default_rng([seed, 7])
    z, traces = standardised(), np.array(list(TRACES.values()))
    tau = abs(rng.normal(0.0, SCATTER_SD)) if scatter is None else scatter
    tau_e = tau * np.exp(SCATTER_RATIO_SD * rng.normal(size=len(traces)))
    slope = SLOPE_SD * rng.normal(size=len(traces))
    log_ratio = np.log(traces[:, 1]) + slope * z[:, None] + tau_e * rng.normal(size=(len(z), len(traces)))
    factor = CALIBRATION_SD * rng.normal(size=len(ELEMENTS))
    results = [one_map(rng, traces, np.exp(row), factor) for row in log_ratio]
    return results, {"slope": slope, "tau": tau_e, "log_ratio": log_ratio}


def one_map(rng: np.random.Generator, traces: FloatArray, ratio: FloatArray, factor: FloatArray) -> Result:
    """Draw a map's posterior: amounts measured with errors, read with factors drawn from their prior."""
    majors = np.array(list(MAJORS.values())).T
    amounts = np.stack([np.append(majors[0], traces[:, 0]), np.append(majors[1], traces[:, 0] * ratio)])
    amounts[:, : len(MAJORS)] *= ((1.0 - amounts[:, len(MAJORS) :].sum(axis=1)) / majors.sum(axis=1))[:, None]
    error = np.concatenate([np.full((2, len(MAJORS)), 0.01), traces[:, 2:].T], axis=1)
    sd = error * np.maximum(amounts * np.exp(factor), 1e-6)
    # An absolute error does not shrink with the amount: traces of a phase poor in them are lost in the background.
    sd[1, len(MAJORS) :] = error[1, len(MAJORS) :] * traces[:, 0] * traces[:, 1]
    measured = amounts * np.exp(factor) + sd * rng.normal(size=amounts.shape)
    counted = truncnorm(-measured / sd, np.inf, measured, sd).rvs(
        size=(*DRAWS, *amounts.shape), random_state=rng
    )
    return made_result(counted, CALIBRATION_SD * rng.normal(size=(*DRAWS, len(ELEMENTS))))


def made_result(counted: FloatArray, log_factor: FloatArray) -> Result:
    """Make a result of amounts (chain, draw, phase, element) and log calibration factors (chain, draw, element)."""
    import xarray as xr

    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.result import Result

    dims = ("chain", "draw", "phase", "element")
    amounts = {"composition_counting": counted, "composition": counted * np.exp(-log_factor)[:, :, None, :]}
    variables: dict[str, Any] = {
        name: (dims, x / x.sum(axis=-1, keepdims=True)) for name, x in amounts.items()
    }
    coordinates = {"phase": list(PHASES), "element": list(ELEMENTS)}
    posterior = xr.Dataset(
        variables | {"log_calibration": (("chain", "draw", "element"), log_factor)}, coordinates
    )
    constants = xr.Dataset(
        {
            "calibration_sd": ("element", CALIBRATION_SD),
            "calibration_family": ("element", ["L"] * len(ELEMENTS)),
        },
        {"element": list(ELEMENTS)},
    )
    run = {
        "method": "laplace",
        "config": {
            "inference": {"level": 0.95},
            "phases": [{"name": "Brg", "matrix": True}, {"name": "CaPv", "absent": ["Mg"]}],
            "xray": {},
        },
        "lines": "simulated",
        "problems": [],
    }
    return Result(
        xr.DataTree.from_dict({"posterior": posterior, "constant_data": constants}), RunRecord.of(run)
    )


def judged(comparison: Comparison, truth: dict[str, FloatArray]) -> pd.DataFrame:
    """Return each trace's slope interval beside its truth, and the shrinkage of the maps' intervals beside theory.

    With a known scatter tau and errors s of ln D alike in all maps, partial pooling narrows map i's interval by

        sqrt( 1 - B (1 - h_i) ),   B = s^2 / (s^2 + tau^2),   h_i = 1 / R + z_i^2 / R

    (Gelman, A., et al., Bayesian Data Analysis, 3rd ed. (2013), sections 5.4 and 15.2).
    """
    series = comparison.series
    assert series is not None
    trend = (
        series.trend().set_index(["numerator", "denominator", "element"]).sort_index().loc[("CaPv", "Brg")]
    )
    maps = series.maps().set_index(["numerator", "denominator", "element"]).sort_index().loc[("CaPv", "Brg")]
    z = standardised()
    leverage = (1.0 + z**2) / len(z)
    found = []
    for i, element in enumerate(TRACES):
        row, own = trend.loc[element], maps.loc[element]
        slope = truth["slope"][i] / series.spread
        error = np.hypot(*list(TRACES.values())[i][2:])
        pull = error**2 / (error**2 + truth["tau"][i] ** 2)
        both = (own["kind"] == "interval").all()
        widths = [
            float(np.log(own[f"{name}_upper"] / own[f"{name}_lower"]).mean()) if both else np.nan
            for name in ("pooled", "D")
        ]
        found.append(
            {
                "element": element,
                "kind": row["kind"],
                "inside": row["slope_lower"] <= slope <= row["slope_upper"],
                "width": (row["slope_upper"] - row["slope_lower"]) * series.spread,
                "narrower": widths[0] / widths[1],
                "theory": float(np.sqrt(1.0 - pull * (1.0 - leverage)).mean()),
                "problems": len(comparison.problems),
            }
        )
    return pd.DataFrame(found)


def coverage_rows(what: str, table: pd.DataFrame) -> list[Row]:
    """Rows of one kind of series."""
    reported = table[table["kind"] == "interval"]
    share, by_element = reported["inside"].mean(), reported.groupby("element", sort=False)["inside"].mean()
    each = ", ".join(f"{element} {value:.2f}" for element, value in by_element.items())
    known = table.dropna(subset=["narrower"])
    ratio = known["narrower"].mean() / known["theory"].mean()
    problems = int((table.groupby("series")["problems"].first() > 0).sum())
    return [
        Row(
            f"{what}: slopes inside their intervals",
            f"at least {LEAST_COVERAGE}",
            f"{share:.3f} of {len(reported)} ({each})",
            bool(share >= LEAST_COVERAGE),
        ),
        Row(f"{what}: width of a slope, ln D per sd, median", "", f"{reported['width'].median():.2f}", None),
        Row(
            f"{what}: pooled over own width of a map's D",
            f"theory with known scatter, within {THEORY_TOLERANCE:.0%}",
            f"{known['narrower'].mean():.3f}, theory {known['theory'].mean():.3f}: {ratio - 1.0:+.1%}",
            bool(abs(ratio - 1.0) <= THEORY_TOLERANCE),
        ),
        Row(f"{what}: series whose sampler has problems", "none", str(problems), problems == 0),
    ]
