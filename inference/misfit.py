"""Pooled residuals: where on a map no mixture of given spectra explains the counts, with a false-alarm rate.

Counts are pooled over square windows W of several sizes. Sums of Poisson counts are Poisson, and a window's mean is
again a mixture of the spectra, so each window is fitted by itself, without a prior that would pull it elsewhere::

    y_Wg ~ Poisson( sum_k A_Wk s_kg ),   A_Wk >= 0                          maximum likelihood, groups g of channels
    U_d  = sum_g phi_dg ( y_Wg / mu_Wg - 1 )                                 score of an additional spectrum phi_d
    z_d  = U_d / sqrt( I_dd - I_dA I_AA^-1 I_Ad )                            standardised, I over the phases with A > 0

Of few counts z_d is not normal: two counts where a thousandth is expected are z = 63, and no wonder of that size. Where
z_d is large it is replaced by the normal deviate of as small a tail (`bayesunmix.inference.poisson_tail`). A rate is
known no better than the map tells: half a count of all its counts is added to every group of each spectrum.

Because A >= 0, a window of pure X is not explained as one phase minus another. What all windows have in common is the
model's business, not the map's: of z_d the part that goes with the phases' amounts is taken out, and where windows
of one size scatter more than counting explains (zoning, thickness), z_d is divided by that excess, by the
median absolute deviation. What is left is local.

The largest of many correlated and, at few counts, skewed numbers has no closed distribution: maps drawn from the
fitted model give each direction and window size a typical largest value, by which z is scaled, and the spread of
the largest scaled value over all of them, a Gumbel distribution, gives the threshold that a map without fault
passes with the wanted probability. A map k times larger than those drawn has k chances: k times the probability.

References
----------
Score tests: Rao, C. R., Proc. Camb. Philos. Soc. 44 (1948) 50, doi:10.1017/S0305004100023987. Limits of maxima:
Gumbel, E. J., Statistics of Extremes (1958).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import Rows, pieces
from bayesunmix.core.threads import single_thread
from bayesunmix.inference.extremes import prediction_limit
from bayesunmix.inference.poisson_tail import tail_deviates
from bayesunmix.inference.windows import (
    nearest_centre,
    summed_area,
    window_bands,
    window_centres,
    window_sides,
    window_step,
    window_sums,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
SmallArray = npt.NDArray[np.int16]
SignArray = npt.NDArray[np.int8]

# Reweightings of the fit of a window, and sweeps of coordinate descent in each.
REWEIGHTINGS, SWEEPS = 3, 25
# Amounts that move by less than this share of the counts have settled.
SETTLED = 1e-6
# A direction of which the phases leave less than this share is one of their mixtures.
LEAST_OWN = 0.03
# Scores beyond so many deviations are judged by the tails of Poisson counts.
TAIL = 3.0
# Counts that a group may have missed by accident in all of a map (Jeffreys' prior).
UNSEEN = 0.5
# Residuals beyond this many deviations do not decide on what is common to all windows.
CLIPPED = 2.5
COMMON_ROUNDS = 4
# Windows that decide on it, evenly spread.
MOST_COMPARED = 2000
# Simulated maps, and the most pixels of each: larger maps are extrapolated by the Gumbel law.
N_SIMULATED = 30
MOST_SIMULATED = 6_000
BATCH = 2048
SMALLEST = 1e-9


@dataclass(frozen=True, kw_only=True)
class Faultless:
    """What the windows of maps without fault give, which were drawn from a model.

    Attributes
    ----------
    relative : (size, direction)
        What residuals of a size and direction are divided by, so that `threshold` is one number.
    scatter : (size, direction)
        Of the windows.
    threshold : float
        Value that such a map passes anywhere with a wanted probability.
    """

    relative: FloatArray
    scatter: FloatArray
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Where a map departs from every mixture.

    Attributes
    ----------
    sigma : (y, x)
        Largest standardised residual of the windows around each pixel, in units in which `threshold` is one number.
    direction : (y, x) int16
        Which direction it is.
    side : (y, x) int16
        Side of the window.
    sign : (y, x) int8
        +1 for too much, -1 for too little.
    faultless : Faultless
        What the residuals are held against.
    false_alarm : float
        Probability that a map without fault has any place above the threshold.
    spread : float
        Scatter of windows over that of counting, the largest of all directions and sizes: above 1 the map varies
        more than the model says.
    """

    sigma: FloatArray
    direction: SmallArray
    side: SmallArray
    sign: SignArray
    faultless: Faultless
    false_alarm: float
    spread: float

    @property
    def threshold(self) -> float:
        """Value that a map without fault passes anywhere with probability `false_alarm`."""
        return self.faultless.threshold

    @classmethod
    def nothing(cls, shape: tuple[int, ...], faultless: Faultless, false_alarm: float) -> Scan:
        """Return a scan that has found no residual yet."""
        return cls(
            sigma=np.zeros(shape),
            direction=np.zeros(shape, np.int16),
            side=np.zeros(shape, np.int16),
            sign=np.ones(shape, np.int8),
            faultless=faultless,
            false_alarm=false_alarm,
            spread=1.0,
        )

    def placed(self, box: tuple[slice, slice], shape: tuple[int, int]) -> Scan:
        """Return the scan of a part of a map on the grid of all of it; elsewhere no residual is."""
        whole: dict[str, Any] = {}
        for name in ("sigma", "direction", "side", "sign"):
            values = getattr(self, name)
            whole[name] = np.ones(shape, values.dtype) if name == "sign" else np.zeros(shape, values.dtype)
            whole[name][box] = values
        return replace(self, **whole)


def pooled_amounts(counts: FloatArray, spectra: FloatArray, sweeps: int = SWEEPS) -> FloatArray:
    """Non-negative amounts of the spectra in each row of counts, by Poisson maximum likelihood, (row, phase).

    The likelihood equations are those of least squares with weights 1 / mu; they are solved with the weights of the
    last round, by coordinate descent.

    Parameters
    ----------
    counts : (row, group)
    spectra : (phase, group)
        Unit sums or nearly.
    sweeps : int
        Rounds of coordinate descent; many spectra that overlap need many.
    """
    floor = SMALLEST * spectra.mean()
    total = counts.sum(axis=1)
    mean = total[:, None] * (spectra.mean(axis=0) + floor) + SMALLEST
    # Phases first: a step of the descent then reads rows that lie side by side.
    amounts = np.tile(total / len(spectra), (len(spectra), 1))
    for _ in range(REWEIGHTINGS):
        weighted = 1.0 / mean
        pull = spectra @ (counts * weighted).T
        products = np.stack([(spectra * row) @ weighted.T for row in spectra])
        diagonal = np.maximum(np.einsum("kkn->kn", products), SMALLEST)
        for _ in range(sweeps if len(spectra) > 1 else 1):
            moved = 0.0
            for k in range(len(spectra)):
                gap = pull[k] - (products[k] * amounts).sum(axis=0)
                better = np.maximum(amounts[k] + gap / diagonal[k], 0.0)
                moved = max(moved, float(np.abs(better - amounts[k]).max(initial=0.0)))
                amounts[k] = better
            if moved < SETTLED * total.max(initial=0.0):
                break
        mean = amounts.T @ (spectra + floor) + SMALLEST
    return np.ascontiguousarray(amounts.T)


def scores(
    counts: FloatArray, spectra: FloatArray, directions: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Scores of additional spectra in each row of counts after the fit of the others.

    Returns
    -------
    z : (row, direction)
        Normal deviates of as small tails; 0 where the phases' mixtures hold the direction.
    root : (row, direction)
        Square root of the information left to the direction.
    amounts : (row, phase)
    """
    pieces = [_scores(counts[i : i + BATCH], spectra, directions) for i in range(0, len(counts), BATCH)]
    z, root, amounts = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return z, root, amounts


def _scores(
    counts: FloatArray, spectra: FloatArray, directions: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    amounts = pooled_amounts(counts, spectra)
    mean = amounts @ (spectra + SMALLEST * spectra.mean()) + SMALLEST
    # Products in 32 bits: a standardised residual needs no more.
    weight, short = (1.0 / mean).astype(np.float32), directions.astype(np.float32)
    apart = (counts / mean - 1.0).astype(np.float32)
    score = apart @ short.T
    own = weight @ (short**2).T
    active = amounts > 0.0
    cross = np.stack([weight @ (short * row.astype(np.float32)).T for row in spectra], axis=1)
    cross *= active[:, :, None]
    inner = np.stack([weight @ (spectra * row).T for row in spectra], axis=1)
    inner *= active[:, :, None] & active[:, None, :]
    diagonal = np.einsum("nkk->nk", inner)
    inner = inner + np.eye(len(spectra)) * np.where(active, 1e-9 * diagonal, 1.0)[:, :, None]
    solved = np.linalg.inv(inner).astype(np.float32) @ cross
    # Amounts of spectra that nearly hold the direction are not quite at their best: what that leaves goes with them.
    unfinished = (apart @ spectra.T.astype(np.float32)) * active
    score = score - np.einsum("nk,nkd->nd", unfinished, solved)
    left = own - (cross * solved).sum(axis=1)
    known = left > LEAST_OWN * own
    root = np.sqrt(np.where(known, left, np.inf))
    z = (score / root).astype(float)
    row, d = np.nonzero(np.abs(z) > TAIL)
    own_part = directions[d] - np.einsum("pk,kg->pg", solved[row, :, d] * active[row], spectra)
    z[row, d] = tail_deviates(counts[row], mean[row], own_part / mean[row])
    return z, np.where(known, root, 0.0).astype(float), amounts


def drawn_windows(
    grid: FloatArray, spectra: FloatArray, directions: FloatArray, sides: tuple[int, ...]
) -> list[tuple[FloatArray, FloatArray]]:
    """Residuals of all windows of every size of a map drawn from the model, and how each direction scatters.

    Parameters
    ----------
    grid : (y, x, group)
    spectra : (phase, group)
    directions : (direction, group)
    sides : tuple of int

    Returns
    -------
    list of z (window, direction), which is not yet divided by the scatter (direction,).
    """
    found, table = [], summed_area(grid)
    for side in sides:
        rows = window_sums(table, side, window_step(side))[0].reshape(-1, grid.shape[2])
        z, _, _ = scores(rows, spectra, directions)
        found.append((z, _scatter(z[_compared(rows.sum(axis=1))])))
    return found


def _compared(totals: FloatArray) -> IntArray:
    """Windows that decide on what is common to all and how they scatter, from the counts of all (window,)."""
    some = np.flatnonzero(totals > 0.0)
    return some[:: -(-len(some) // MOST_COMPARED) or 1]


def _scatter(z: FloatArray) -> FloatArray:
    """Scatter of each direction over windows (window, direction), by the median absolute deviation."""
    return np.asarray(1.4826 * np.median(np.abs(z), axis=0)) if len(z) else np.ones(z.shape[1])


@dataclass(frozen=True)
class _Local:
    """What is local about the windows of one size.

    Attributes
    ----------
    common : (direction, phase)
        What goes with the phases' amounts in all windows.
    scatter : (direction,)
        Of the windows, once that is taken out.
    """

    spectra: FloatArray
    directions: FloatArray
    common: FloatArray
    scatter: FloatArray

    @classmethod
    def of(cls, compared: FloatArray, spectra: FloatArray, directions: FloatArray) -> _Local:
        """Learn from some windows' counts (window, group)."""
        z, root, amounts = scores(compared, spectra, directions)
        common = _common(z, root, amounts)
        return cls(spectra, directions, common, _scatter(z - root * (amounts @ common.T)))

    def residuals(self, counts: FloatArray) -> FloatArray:
        """Residuals of windows' counts (window, group), (window, direction)."""
        z, root, amounts = scores(counts, self.spectra, self.directions)
        return np.asarray(z - root * (amounts @ self.common.T))


def _common(z: FloatArray, root: FloatArray, amounts: FloatArray) -> FloatArray:
    """Part of the residuals that goes with the phases' amounts, for one unit of each, (direction, phase).

    A spectrum that misses its phase by f phi gives z = root x amount x f everywhere; f is found by least squares on
    residuals clipped at a few deviations, so that a place of its own kind does not count as common.

    Parameters
    ----------
    z, root : (window, direction)
    amounts : (window, phase)
    """
    design = root[:, :, None] * amounts[:, None, :]
    inner = np.einsum("ndk,ndj->dkj", design, design)
    inner += np.eye(amounts.shape[1]) * (1e-8 * np.trace(inner, axis1=1, axis2=2) + SMALLEST)[:, None, None]
    clipped, common = z, np.zeros((z.shape[1], amounts.shape[1]))
    for _ in range(COMMON_ROUNDS):
        common = np.linalg.solve(inner, np.einsum("ndk,nd->dk", design, clipped)[..., None])[..., 0]
        fitted = np.einsum("ndk,dk->nd", design, common)
        rest = z - fitted
        bound = CLIPPED * np.maximum(1.4826 * np.median(np.abs(rest), axis=0), SMALLEST)
        clipped = fitted + np.clip(rest, -bound, bound)
    return common


def _compared_counts(grid: Rows, totals: FloatArray, side: int) -> FloatArray:
    """Collect the counts of the windows that decide, (window, group)."""
    wide = len(window_centres(grid.shape[1], window_step(side)))
    some = _compared(window_sums(summed_area(totals[..., None]), side, window_step(side))[0].ravel())
    rows = [np.zeros((0, grid.shape[2]))]
    for band, sums in window_bands(grid, side):
        inside = some[(some >= band.start * wide) & (some < band.stop * wide)] - band.start * wide
        rows.append(sums.reshape(-1, grid.shape[2])[inside])
    return np.concatenate(rows)


def scan(
    grid: Rows,
    spectra: FloatArray,
    directions: FloatArray,
    shares: npt.NDArray[np.floating],
    *,
    seed: int,
    false_alarm: float = 0.01,
    kept: npt.NDArray[np.bool_] | None = None,
    faultless: Faultless | None = None,
) -> Scan:
    """Look for places where no mixture of the spectra explains the counts.

    Parameters
    ----------
    grid : (y, x, group)
        Counts, read in rows.
    spectra : (phase, group)
        Endmembers, unit sums.
    directions : (direction, group)
        Spectra of what may be there besides, in any unit.
    shares : (y, x, phase)
        Fitted abundances in shares of counts: what simulated maps are drawn from.
    seed : int
    false_alarm : float
        Probability that a map without fault has any place above the threshold.
    kept : (y, x) bool, optional
        False where a pixel is left out: it holds no counts, and no residual is found there.
    faultless : Faultless, optional
        Of an earlier scan of the map with nearly these endmembers, if there was one: how windows scatter hangs on how
        many they are and what they hold, and hardly on the endmembers.
    """
    totals = _totals(grid)
    spectra = _as_far_as_known(spectra, totals)
    kept = np.ones(totals.shape, bool) if kept is None else kept
    sides = window_sides(totals.shape, float(totals[kept].mean()))
    if faultless is None:
        more = max(np.count_nonzero(kept) / MOST_SIMULATED, 1.0)
        drawn = _simulated(
            totals=totals, spectra=spectra, directions=directions, shares=shares, sides=sides, seed=seed
        )
        faultless = _faultless(*drawn, false_alarm / more)
    found = Scan.nothing(totals.shape, faultless, false_alarm)
    for side, expected, relative in zip(sides, faultless.scatter, faultless.relative, strict=True):
        local = _Local.of(_compared_counts(grid, totals, side), spectra, directions)
        wide = np.maximum(local.scatter / np.maximum(expected, 0.5), 1.0)
        found = replace(found, spread=max(found.spread, float(wide.max())))
        found = _stronger(found, grid, side, local, wide * np.maximum(relative, SMALLEST))
    return replace(found, sigma=np.where(kept, found.sigma, 0.0))


def _faultless(largest: FloatArray, scatter: FloatArray, false_alarm: float) -> Faultless:
    """Learn from the largest residuals of drawn maps, (map, size, direction), and their scatter (size, direction)."""
    typical = largest.mean(axis=0)
    unit = float(np.median(typical))
    # A direction that the drawn maps' windows nearly all hold has a small largest value there, for want of windows: a
    # map whose phases are purer tests it more often, and its scores are standard deviations like any other's.
    typical = np.maximum(typical, unit)
    extreme = (largest / np.maximum(typical, SMALLEST)).max(axis=(1, 2))
    deviations = prediction_limit(len(largest), false_alarm)
    threshold = unit * (float(extreme.mean()) + deviations * float(extreme.std(ddof=1)))
    return Faultless(relative=typical / unit, scatter=scatter, threshold=threshold)


def _as_far_as_known(spectra: FloatArray, totals: FloatArray) -> FloatArray:
    """Return spectra of unit sum in which no group is rarer than so many counts (y, x) can tell."""
    unseen = UNSEEN / max(float(totals.sum()), 1.0)
    return np.asarray((spectra + unseen) / (1.0 + unseen * spectra.shape[1]))


def _totals(grid: Rows) -> FloatArray:
    """Sum the counts of each pixel (y, x), as real numbers."""
    return np.concatenate([grid[part].sum(axis=2, dtype=np.float64) for part in pieces(grid, np.float64)])


def _simulated(
    totals: FloatArray,
    spectra: FloatArray,
    directions: FloatArray,
    shares: npt.NDArray[np.floating],
    sides: tuple[int, ...],
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Largest residual (map, size, direction) of maps drawn from the model, and mean scatter (size, direction)."""
    rows, columns = totals.shape
    band = max(min(rows, MOST_SIMULATED // columns), min(rows, max(sides)))

    def one(number: int) -> tuple[list[FloatArray], list[FloatArray]]:
        generator = np.random.default_rng([seed, 30, number])
        first = int(generator.integers(0, rows - band + 1))
        part = slice(first, first + band)
        mean = totals[part, :, None] * (shares[part] @ spectra)
        drawn = generator.poisson(mean).astype(float)
        found = drawn_windows(drawn, spectra, directions, sides)
        largest = [np.abs(z).max(axis=0) / np.maximum(scatter, 1.0) for z, scatter in found]
        return largest, [scatter for _, scatter in found]

    # NumPy leaves Python's lock in what takes long; products are too small to share.
    with single_thread(), ThreadPoolExecutor(2) as pool:
        largest, scatters = zip(*pool.map(one, range(N_SIMULATED)), strict=True)
    return np.asarray(largest), np.asarray(scatters).mean(axis=0)


def _stronger(found: Scan, grid: Rows, side: int, local: _Local, unit: FloatArray) -> Scan:
    """Put the residuals of the windows of one size where they are the strongest around a pixel so far.

    Parameters
    ----------
    unit : (direction,)
        What residuals of this size are divided by.
    """
    shape, step = found.sigma.shape, window_step(side)
    centres = [window_centres(size, step) for size in shape]
    value = np.zeros([len(each) for each in centres])
    which = np.zeros(value.shape, np.int16)
    for band, sums in window_bands(grid, side):
        scaled = local.residuals(sums.reshape(-1, sums.shape[2])) / unit
        strongest = np.abs(scaled).argmax(axis=1)
        which[band] = strongest.reshape(sums.shape[:2])
        value[band] = np.take_along_axis(scaled, strongest[:, None], axis=1).reshape(sums.shape[:2])
    nearest = np.ix_(*(nearest_centre(each, size) for each, size in zip(centres, shape, strict=True)))
    size = np.abs(value)[nearest]
    higher = size > found.sigma
    return replace(
        found,
        sigma=np.where(higher, size, found.sigma),
        sign=np.where(higher, np.sign(value).astype(np.int8)[nearest], found.sign),
        direction=np.where(higher, which[nearest], found.direction),
        side=np.where(higher, np.int16(side), found.side),
    )
