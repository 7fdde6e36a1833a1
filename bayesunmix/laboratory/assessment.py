"""What a simulation study says of an engine: ranks of the truths, coverage of intervals, and what breaks them.

Where truths are drawn as the posterior assumes (simulation-based calibration), the verdict is one number with a known
rate of false alarms. Each quantity's ranks give a p-value of uniformity (`bayesunmix.laboratory.ranks`); an engine is
not calibrated when the smallest of Q p-values is below alpha / Q (Bonferroni), which happens to a right one with a
probability of at most alpha, however the quantities are correlated.

Where truths are fixed, true zeros among them, ranks are not uniform: what is judged then are the intervals as they are
reported, central ones or bounds, and how often something is taken for present where there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.laboratory.coverage import CENTRAL, LEVELS, NONE, intervals, share_limits
from bayesunmix.laboratory.ranks import fractional_ranks, uniformity_p_value
from bayesunmix.laboratory.replicates import Replicate

FloatArray = npt.NDArray[np.float64]
Kinds = Callable[[Replicate], npt.NDArray[np.str_]]

FALSE_ALARMS = 0.05
# Fewer ranks than this say nothing about a distribution.
FEWEST = 10


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a study says about an engine.

    Attributes
    ----------
    long : DataFrame
        One row per replicate and quantity: replicate, quantity, truth, median, sd, kind of interval, rank, and for each
        level ``held_95`` and ``width_95``.
    table : DataFrame
        One row per quantity: replicates, truth (median), p_value of uniform ranks (nan where they need not be), shift
        (mean rank minus one half, in sd of a uniform rank), spread (rms distance of the ranks from one half, over that
        of a uniform one; above 1 where intervals are too narrow), and for each level ``coverage_95`` and ``width_95``
        (median, relative to the truth).
    failures : tuple of str
        Replicates that gave nothing.
    """

    long: pd.DataFrame
    table: pd.DataFrame
    failures: tuple[str, ...]

    def outside(self, false_alarms: float = FALSE_ALARMS) -> list[str]:
        """Quantities whose ECDF leaves its own band; of a right engine's, a share of `false_alarms` does."""
        return list(self.table.loc[self.table["p_value"] <= false_alarms, "quantity"])

    def failing(self, false_alarms: float = FALSE_ALARMS) -> list[str]:
        """Quantities outside the band that holds all of them at once, but for `false_alarms` of right engines."""
        return self.outside(false_alarms / max(len(self.table), 1))

    @property
    def passes(self) -> bool:
        """Whether the ranks say that the engine is calibrated, as far as this study can tell."""
        judged = self.table["p_value"].notna()
        return bool(judged.any()) and bool(judged.all()) and not self.failing() and not self.failures

    def coverage(self, level: float) -> tuple[int, int]:
        """How many intervals of a level hold their truth, and how many there are."""
        held = self.long.loc[self.long["kind"] != NONE, f"held_{_percent(level)}"]
        return int(held.sum()), len(held)


def assess(
    replicates: Sequence[Replicate], *, kinds: Kinds | None = None, levels: tuple[float, ...] = LEVELS
) -> Assessment:
    """Assess an engine by the replicates of a study.

    Parameters
    ----------
    replicates
        From `bayesunmix.laboratory.replicates.run_study`.
    kinds
        Where truths are fixed: the kind of interval that is reported of each quantity of a replicate, (quantity,), see
        `bayesunmix.laboratory.coverage`. Left out where truths are drawn as the posterior assumes.
    levels
        Of the intervals.
    """
    done = [replicate for replicate in replicates if not replicate.failure]
    failures = tuple(f"replicate {r.number}: {r.failure}" for r in replicates if r.failure)
    rows = [_rows(replicate, kinds, levels) for replicate in done]
    long = pd.concat(rows, ignore_index=True) if rows else _rows(_nothing(), None, levels)
    return Assessment(long, _table(long, levels, uniform=kinds is None), failures)


def distorted(replicates: Sequence[Replicate], *, scale: float = 1.0, shift: float = 0.0) -> list[Replicate]:
    """Break an engine on purpose: draws pulled to their median by `scale` and moved by `shift` standard deviations.

    A study that passes an engine and this one alike has no power.
    """

    def broken(draws: FloatArray) -> FloatArray:
        centre, sd = np.median(draws, axis=1, keepdims=True), draws.std(axis=1, keepdims=True)
        return np.asarray(centre + scale * (draws - centre) + shift * sd)

    return [r if r.failure else replace(r, draws=broken(r.draws)) for r in replicates]


def decisions(long: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Count how often something is taken for present, with the limits of that share.

    Parameters
    ----------
    long
        Rows of `Assessment.long`.
    by
        Columns that rows are grouped by.

    Returns
    -------
    pandas.DataFrame
        The columns `by`, replicates, detected, share, lower, upper (Clopper and Pearson's 95 % limits).
    """
    rows = []
    for key, group in long.groupby(list(by), sort=False):
        held, of = int((group["kind"] == CENTRAL).sum()), len(group)
        rows.append((*key, of, held, held / of, *share_limits(held, of)))
    return pd.DataFrame(rows, columns=[*by, "replicates", "detected", "share", "lower", "upper"])


def _percent(level: float) -> str:
    return f"{100.0 * level:g}"


def _nothing() -> Replicate:
    return Replicate(number=0, names=(), truth=np.zeros(0), draws=np.zeros((0, 1)), seconds=0.0)


def _rows(replicate: Replicate, kinds: Kinds | None, levels: tuple[float, ...]) -> pd.DataFrame:
    """Summary of one replicate, a row per quantity."""
    truth, draws = replicate.truth, replicate.draws
    kind = np.full(len(truth), CENTRAL, dtype="<U12") if kinds is None else kinds(replicate)
    found = intervals(draws, kind, levels)
    held, width = found.hold(truth), found.width
    return pd.DataFrame(
        {
            "replicate": replicate.number,
            "quantity": list(replicate.names),
            "truth": truth,
            "median": np.median(draws, axis=1),
            "sd": draws.std(axis=1),
            "kind": kind,
            "rank": fractional_ranks(truth, draws, replicate.number),
            **{f"held_{_percent(level)}": held[:, i] for i, level in enumerate(levels)},
            **{f"width_{_percent(level)}": width[:, i] for i, level in enumerate(levels)},
        }
    )


def _table(long: pd.DataFrame, levels: tuple[float, ...], *, uniform: bool) -> pd.DataFrame:
    """Verdict on every quantity."""
    rows = []
    for quantity, every in long.groupby("quantity", sort=False):
        group = every[every["kind"] != NONE]
        ranks, truth = group["rank"].to_numpy(), group["truth"].to_numpy()
        relative = np.where(truth > 0.0, truth, np.nan)
        row = {
            "quantity": quantity,
            "replicates": len(group),
            "truth": group["truth"].median(),
            "p_value": uniformity_p_value(ranks) if uniform and len(ranks) >= FEWEST else np.nan,
            "shift": np.sqrt(12.0) * (ranks.mean() - 0.5) if len(ranks) else np.nan,
            "spread": np.sqrt(12.0 * ((ranks - 0.5) ** 2).mean()) if len(ranks) else np.nan,
        }
        row |= {f"coverage_{_percent(x)}": group[f"held_{_percent(x)}"].mean() for x in levels}
        row |= {f"width_{_percent(x)}": (group[f"width_{_percent(x)}"] / relative).median() for x in levels}
        rows.append(row)
    names = [f"{kind}_{_percent(x)}" for kind in ("coverage", "width") for x in levels]
    columns = ["quantity", "replicates", "truth", "p_value", "shift", "spread", *names]
    return pd.DataFrame(rows, columns=columns)
