"""Runs of one map, ranked by how well each predicts a part of the map from the rest, and weighted by stacking.

    elpd_r = sum_t log p_r(y_t | y_-t)         tile t of the map by run r, from Pareto smoothed importance sampling
    w      = argmax over the simplex of sum_t log sum_r w_r p_r(y_t | y_-t)

The weights are those of runs that do not predict worse than the best. Others would get some for a few tiles on which
they happen to be better, and with them a say in compositions that the map as a whole excludes.

Leave-one-out: Vehtari, A., Gelman, A., Gabry, J., Stat. Comput. 27 (2017) 1413, doi:10.1007/s11222-016-9696-4.
Stacking: Yao, Y., et al., Bayesian Anal. 13 (2018) 917, doi:10.1214/17-BA1091. A run predicts worse where the
difference is above four nats, below which errors cannot be trusted (Sivula, T., et al., 2020, arXiv:2008.10296), and
below zero in 97.5 % of the Bayesian bootstrap (Rubin, D. B., Ann. Stat. 9 (1981) 130, doi:10.1214/aos/1176345338). That
is two standard errors where the differences of tiles are normal; where a phase that is missing lies on a few tiles, the
standard error is as large as the difference, and says nothing. Standard error and bootstrap are over tiles or over some
three dozen areas, whichever are less sure: neighbouring tiles may miss the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import logsumexp

from bayesunmix.core.credible import health
from bayesunmix.core.shares import shares_of
from bayesunmix.results.predictive_groups import ASIDE, COUNTS, DATA, LIKELIHOOD

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

# A smaller difference, or a less sure one, is none.
NATS, SURE = 4.0, 0.975
BOOTSTRAP_DRAWS = 4000
# Areas along each side of the map whose sums are as independent as tiles are not.
AREAS = 6
# Rounding of single precision, in nats.
CONSTANT = 1e-6
BEST, ALIKE, WORSE = "best", "not distinguishable", "worse"
COLUMNS = (
    "result",
    "elpd",
    "elpd_se",
    "difference",
    "difference_se",
    "weight",
    "standing",
    "effective_parameters",
    "areas",
    "unreliable_areas",
    "set_aside_counts",
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """How well one run predicts each tile of its map from the others.

    Attributes
    ----------
    by_tile : (tile,)
        Log predictive density in nats, of all counts.
    area : (tile,) int
        Area of the map that a tile lies in.
    parameters : float
        Effective number of parameters.
    unreliable : int
        Tiles whose Pareto k forbids trust.
    aside : int
        Counts that were set aside in the run, and are in the density all the same.
    """

    by_tile: FloatArray
    area: npt.NDArray[np.int64]
    parameters: float
    unreliable: int
    aside: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranking:
    """Runs of one map in the order of their expected log predictive density.

    Attributes
    ----------
    names : tuple of str
    predictions : tuple of Prediction
    weights : (run,)
        By stacking; none for runs that predict worse than the best.
    """

    names: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    weights: FloatArray

    @cached_property
    def order(self) -> list[int]:
        """Numbers of the runs, the best first."""
        totals = [-one.by_tile.sum() for one in self.predictions]
        return [int(run) for run in np.argsort(totals, kind="stable")]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each run, the best first, with the columns `COLUMNS`."""
        best, rows = self.predictions[self.order[0]], []
        for run in self.order:
            own = self.predictions[run]
            apart = own.by_tile - best.by_tile
            difference, error = float(apart.sum()), paired_error(apart, own.area)
            rows.append(
                (
                    self.names[run],
                    float(own.by_tile.sum()),
                    paired_error(own.by_tile, own.area),
                    difference,
                    error,
                    float(self.weights[run]),
                    BEST if own is best else standing(difference, probability_below(apart, own.area)),
                    own.parameters,
                    len(own.by_tile),
                    own.unreliable,
                    own.aside,
                )
            )
        return pd.DataFrame(rows, columns=list(COLUMNS))


def standing(difference: float, probability: float) -> str:
    """Say whether a run is worse than the best one.

    Parameters
    ----------
    difference : float
        Its log predictive density less that of the best.
    probability : float
        That this is below zero.

    Examples
    --------
    >>> standing(-30.0, 0.99), standing(-30.0, 0.9), standing(-3.0, 0.99)
    ('worse', 'not distinguishable', 'not distinguishable')
    """
    return WORSE if difference < -NATS and probability >= SURE else ALIKE


def probability_below(by_tile: FloatArray, area: npt.NDArray[np.int64]) -> float:
    """Probability that a sum over tiles (tile,) is below zero, by tiles or by areas, whichever is less sure."""
    found = []
    for values in (by_tile, np.bincount(area, weights=by_tile)):
        weights = np.random.default_rng(0).standard_exponential((BOOTSTRAP_DRAWS, len(values)))
        found.append(float(((weights @ values) < 0.0).mean()))
    return min(found)


def paired_error(by_tile: FloatArray, area: npt.NDArray[np.int64]) -> float:
    """Return the standard error of a sum over tiles (tile,), by the scatter of tiles or of areas, whichever is more."""
    found = [0.0]
    for values in (by_tile, np.bincount(area, weights=by_tile)):
        if len(values) > 1:
            found.append(float(np.sqrt(len(values)) * values.std(ddof=1)))
    return max(found)


def not_ranked(names: Sequence[str], results: Sequence[Result]) -> str:
    """Say why runs of one map cannot be ranked; an empty text where they can."""
    lacking = [
        name for name, result in zip(names, results, strict=True) if LIKELIHOOD not in result.tree.children
    ]
    if lacking:
        which = ", ".join(lacking)
        return (
            f"{which} cannot be ranked: without a group log_likelihood in posterior.nc (runs of earlier versions, and "
            "endmembers that are fitted channel by channel) there is nothing to rank by."
        )
    first = results[0].tree[LIKELIHOOD].attrs.get(DATA)
    other = [
        name
        for name, result in zip(names, results, strict=True)
        if result.tree[LIKELIHOOD].attrs.get(DATA) != first
    ]
    if other:
        return (
            f"{', '.join(other)} cannot be ranked with {names[0]}: they use other pixels or energies of the map, and "
            "the likelihoods of different data do not compare. Unmix them with the same `[map]`."
        )
    return ""


def rank(names: Sequence[str], results: Sequence[Result]) -> Ranking:
    """Rank runs of one map, for which `not_ranked` has nothing to say.

    Parameters
    ----------
    names, results
        Runs and what they are called.
    """
    predictions, elpds = [], []
    for result in results:
        held = result.tree[LIKELIHOOD].to_dataset()
        fitted, by_tile = held[COUNTS], np.zeros(held.sizes["block"])
        if ASIDE in result.tree.children:
            aside = result.tree[ASIDE][COUNTS]
            fitted = fitted - aside
            drawn = aside.stack(every=("chain", "draw")).transpose("every", "block").values
            by_tile += logsumexp(drawn, axis=0) - np.log(len(drawn))
        # A tile that was set aside as a whole has nothing that is to be left out.
        there = np.flatnonzero(fitted.std(["chain", "draw"]).values > CONSTANT)
        elpd = _leave_one_out(fitted.isel(block=there))
        by_tile[there] += elpd.elpd_i.values
        predictions.append(
            Prediction(
                by_tile=by_tile,
                area=_areas(held),
                parameters=float(elpd.p),
                unreliable=int(np.count_nonzero(elpd.pareto_k.values > elpd.good_k)),
                aside=int(held["counts_aside"].sum()),
            )
        )
        elpds.append(elpd)
    plain = Ranking(names=tuple(names), predictions=tuple(predictions), weights=np.zeros(len(names)))
    table = plain.table
    kept = [names.index(name) for name in table["result"][table["standing"] != WORSE]]
    weights = np.zeros(len(names))
    weights[kept] = _stacking([elpds[run] for run in kept], [predictions[run] for run in kept])
    return replace(plain, weights=weights)


def _leave_one_out(fitted: xr.DataArray) -> ELPDData:
    """Log predictive density of every tile by ArviZ; what it warns of is counted in place of being said."""
    from arviz_stats import loo  # type: ignore[attr-defined]

    drawn = fitted.transpose("chain", "draw", "block").values
    effective = np.nanmedian(health(drawn)[1]) / (drawn.shape[0] * drawn.shape[1])
    tree = xr.DataTree.from_dict({LIKELIHOOD: xr.Dataset({COUNTS: fitted})})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: ELPDData = loo(tree, pointwise=True, reff=float(np.clip(effective, 1e-3, 1.0)))  # type: ignore[no-untyped-call]
    return found


def _stacking(elpds: Sequence[ELPDData], predictions: Sequence[Prediction]) -> FloatArray:
    """Weights of the runs by ArviZ, which takes exponentials: of densities relative to each tile's best run."""
    from arviz_stats import compare  # type: ignore[attr-defined]

    if len(elpds) == 1:
        return np.ones(1)
    values = np.stack([one.by_tile for one in predictions])
    relative = values - values.max(axis=0)
    given = {
        str(run): replace(elpd, elpd_i=xr.DataArray(own, dims="block"), elpd=float(own.sum()))
        for run, (elpd, own) in enumerate(zip(elpds, relative, strict=True))
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = compare(given, method="stacking")["weight"]  # type: ignore[no-untyped-call]
    return shares_of(np.maximum([float(found[str(run)]) for run in range(len(elpds))], 0.0))


def _areas(held: xr.Dataset) -> npt.NDArray[np.int64]:
    """Area of the map that each tile lies in, numbered without gaps."""
    place = np.zeros(held.sizes["block"], np.int64)
    for first, end in (("first_row", "end_row"), ("first_column", "end_column")):
        low, high = held[first].values, held[end].values
        middle = 0.5 * (low + high)
        along = (middle - low.min()) / max(float(high.max() - low.min()), 1.0)
        place = place * AREAS + np.minimum((along * AREAS).astype(np.int64), AREAS - 1)
    return np.asarray(np.unique(place, return_inverse=True)[1], np.int64)
