"""Pooled residuals: where on a map no mixture of given spectra explains the counts, with a false-alarm rate.

Counts are pooled over square windows W of several sizes. Sums of Poisson counts are Poisson, and a window's mean is
again a mixture of the spectra, so each window is fitted by itself, without a prior that would pull it elsewhere::

    y_Wg ~ Poisson( sum_k A_Wk s_kg ),   A_Wk >= 0                          maximum likelihood, groups g of channels
    U_d  = sum_g phi_dg ( y_Wg / mu_Wg - 1 )                                 score of an additional spectrum phi_d
    z_d  = U_d / sqrt( I_dd - I_dA I_AA^-1 I_Ad )                            standardised, I over the phases with A > 0

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

from bayesunmix.core.threads import single_thread
from bayesunmix.inference.extremes import prediction_limit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# The smallest window holds about this many counts; windows grow by this factor up to this share of the map.
FEWEST_COUNTS = 600.0
GROWTH = 1.7
LARGEST_SHARE = 0.2
MOST_SIZES = 5
# A window moves by its side over this.
STEPS_PER_SIDE = 2.5
# Reweightings of the fit of a window, and sweeps of coordinate descent in each.
REWEIGHTINGS, SWEEPS = 3, 25
# Amounts that move by less than this share of the counts have settled.
SETTLED = 1e-6
# A direction of which the phases leave less than this share is one of their mixtures.
LEAST_OWN = 0.03
# Residuals beyond this many deviations do not decide on what is common to all windows.
CLIPPED = 2.5
COMMON_ROUNDS = 4
# Windows that decide on it, evenly spread.
MOST_COMPARED = 2000
# Simulated maps, and the most pixels of each: larger maps are extrapolated by the Gumbel law.
N_SIMULATED = 30
MOST_SIMULATED = 6_000
BATCH = 8192
SMALLEST = 1e-9


@dataclass(frozen=True)
class Windows:
    """Standardised residuals of all windows of one size.

    Attributes
    ----------
    side : int
        Side of the window in pixels.
    centres : tuple of (row,), (column,) int
        Pixels in the middle of the windows.
    z : (row, column, direction)
    """

    side: int
    centres: tuple[IntArray, IntArray]
    z: FloatArray


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Where a map departs from every mixture.

    Attributes
    ----------
    sigma : (y, x)
        Largest standardised residual of the windows around each pixel, in units in which `threshold` is one number.
    direction : (y, x) int
        Which direction it is.
    side : (y, x) int
        Side of the window.
    sign : (y, x)
        +1 for too much, -1 for too little.
    threshold : float
        Value that a map without fault passes anywhere with probability `false_alarm`.
    false_alarm : float
    spread : float
        Scatter of windows over that of counting, the largest of all directions and sizes: above 1 the map varies
        more than the model says.
    """

    sigma: FloatArray
    direction: IntArray
    side: IntArray
    sign: FloatArray
    threshold: float
    false_alarm: float
    spread: float

    def placed(self, box: tuple[slice, slice], shape: tuple[int, int]) -> Scan:
        """Return the scan of a part of a map on the grid of all of it; elsewhere no residual is."""
        whole: dict[str, Any] = {}
        for name in ("sigma", "direction", "side", "sign"):
            values = getattr(self, name)
            whole[name] = np.ones(shape, values.dtype) if name == "sign" else np.zeros(shape, values.dtype)
            whole[name][box] = values
        return replace(self, **whole)


def window_sides(shape: tuple[int, int], counts_per_pixel: float) -> tuple[int, ...]:
    """Odd sides of the windows: from about `FEWEST_COUNTS` counts to a fifth of the map.

    A side longer than a side of the map is cut there, so that a line scan has windows along its line.
    """
    longest = max(LARGEST_SHARE * max(shape), 1.0)
    thin = min(shape)
    side = 1
    while min(side, thin) * side * counts_per_pixel < FEWEST_COUNTS and side + 2 <= longest:
        side += 2
    sides = [side]
    while len(sides) < MOST_SIZES:
        side = max(side + 2, round(GROWTH * side) // 2 * 2 + 1)
        if side > longest:
            break
        sides.append(side)
    return tuple(sides)


def summed_area(grid: FloatArray) -> FloatArray:
    """Sum over all pixels above and left of each corner, (y + 1, x + 1, group), of a grid (y, x, group)."""
    table = np.zeros((grid.shape[0] + 1, grid.shape[1] + 1, grid.shape[2]))
    np.cumsum(np.cumsum(grid, axis=0), axis=1, out=table[1:, 1:])
    return table


def window_sums(table: FloatArray, side: int, step: int) -> tuple[FloatArray, tuple[IntArray, IntArray]]:
    """Return sums over square windows cut at the map's edge, and the windows' central pixels.

    Parameters
    ----------
    table : (y + 1, x + 1, group)
        From `summed_area`.
    side, step : int

    Returns
    -------
    (row, column, group) and (rows,), (columns,)
    """
    half, shape = side // 2, (len(table) - 1, table.shape[1] - 1)
    centres = tuple(_centres(size, step) for size in shape)
    low = [np.maximum(centre - half, 0) for centre in centres]
    high = [np.minimum(centre + half + 1, size) for centre, size in zip(centres, shape, strict=True)]
    rows = table[high[0]] - table[low[0]]
    return np.maximum(rows[:, high[1]] - rows[:, low[1]], 0.0), (centres[0], centres[1])


def _centres(size: int, step: int) -> IntArray:
    """Evenly spaced pixels that cover a side of the map."""
    return np.unique(np.linspace(0, size - 1, -(-size // step)).round().astype(np.int64))


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
        Standardised; 0 where the phases' mixtures hold the direction.
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
    return (score / root).astype(float), np.where(known, root, 0.0).astype(float), amounts


def residual_windows(
    grid: FloatArray,
    spectra: FloatArray,
    directions: FloatArray,
    sides: tuple[int, ...],
    *,
    local: bool = True,
) -> list[tuple[Windows, FloatArray]]:
    """Residuals of all windows of every size, and how each direction scatters.

    Parameters
    ----------
    grid : (y, x, group)
    spectra : (phase, group)
    directions : (direction, group)
    sides : tuple of int
    local : bool
        Take out what all windows have in common; nothing is where the counts were drawn from the model.

    Returns
    -------
    list of (Windows, scatter (direction,)); z is not yet divided by the scatter.
    """
    found, table = [], summed_area(grid)
    for side in sides:
        sums, centres = window_sums(table, side, max(1, int(side / STEPS_PER_SIDE)))
        rows = sums.reshape(-1, sums.shape[2])
        z, root, amounts = scores(rows, spectra, directions)
        some = np.flatnonzero(rows.sum(axis=1) > 0.0)
        some = some[:: -(-len(some) // MOST_COMPARED) or 1]
        if local:
            z = _local(z, root, amounts, some)
        scatter = 1.4826 * np.median(np.abs(z[some]), axis=0) if len(some) else np.ones(len(directions))
        found.append((Windows(side, centres, z.reshape(*sums.shape[:2], -1)), scatter))
    return found


def _local(z: FloatArray, root: FloatArray, amounts: FloatArray, some: IntArray) -> FloatArray:
    """Residuals less the part that goes with the phases' amounts, (row, direction).

    A spectrum that misses its phase by f phi gives z = root x amount x f everywhere; f is found by least squares on
    residuals clipped at a few deviations, so that a place of its own kind does not count as common.

    Parameters
    ----------
    z, root : (row, direction)
    amounts : (row, phase)
    some : (part,)
        Rows that decide.
    """
    design = root[some, :, None] * amounts[some, None, :]
    inner = np.einsum("ndk,ndj->dkj", design, design)
    inner += np.eye(amounts.shape[1]) * (1e-8 * np.trace(inner, axis1=1, axis2=2) + SMALLEST)[:, None, None]
    clipped, common = z[some], np.zeros((z.shape[1], amounts.shape[1]))
    for _ in range(COMMON_ROUNDS):
        common = np.linalg.solve(inner, np.einsum("ndk,nd->dk", design, clipped)[..., None])[..., 0]
        fitted = np.einsum("ndk,dk->nd", design, common)
        rest = z[some] - fitted
        bound = CLIPPED * np.maximum(1.4826 * np.median(np.abs(rest), axis=0), SMALLEST)
        clipped = fitted + np.clip(rest, -bound, bound)
    return np.asarray(z - root * (amounts @ common.T))


def scan(
    grid: FloatArray,
    spectra: FloatArray,
    directions: FloatArray,
    shares: FloatArray,
    *,
    seed: int,
    false_alarm: float = 0.01,
    kept: npt.NDArray[np.bool_] | None = None,
) -> Scan:
    """Look for places where no mixture of the spectra explains the counts.

    Parameters
    ----------
    grid : (y, x, group)
        Counts.
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
    """
    totals = grid.sum(axis=2)
    kept = np.ones(totals.shape, bool) if kept is None else kept
    sides = window_sides(totals.shape, float(totals[kept].mean()))
    observed = residual_windows(grid, spectra, directions, sides)
    largest, scatters = _simulated(
        grid=grid, spectra=spectra, directions=directions, shares=shares, sides=sides, seed=seed
    )
    typical = largest.mean(axis=0)
    unit = float(np.median(typical))
    # A direction that the drawn maps' windows nearly all hold has a small largest value there, for want of windows: a
    # map whose phases are purer tests it more often, and its scores are standard deviations like any other's.
    typical = np.maximum(typical, unit)
    extreme = (largest / np.maximum(typical, SMALLEST)).max(axis=(1, 2))
    more = max(np.count_nonzero(kept) / MOST_SIMULATED, 1.0)
    deviations = prediction_limit(N_SIMULATED, false_alarm / more)
    threshold = unit * (float(extreme.mean()) + deviations * float(extreme.std(ddof=1)))
    found = _best(
        observed=observed,
        scatters=scatters,
        relative=typical / unit,
        shape=totals.shape,
        threshold=threshold,
        false_alarm=false_alarm,
    )
    return replace(found, sigma=np.where(kept, found.sigma, 0.0))


def _simulated(
    grid: FloatArray,
    spectra: FloatArray,
    directions: FloatArray,
    shares: FloatArray,
    sides: tuple[int, ...],
    seed: int,
) -> tuple[FloatArray, FloatArray]:
    """Largest residual (map, size, direction) of maps drawn from the model, and mean scatter (size, direction)."""
    rows, columns = grid.shape[:2]
    band = max(min(rows, MOST_SIMULATED // columns), min(rows, max(sides)))
    totals = grid.sum(axis=2)

    def one(number: int) -> tuple[list[FloatArray], list[FloatArray]]:
        generator = np.random.default_rng([seed, 30, number])
        first = int(generator.integers(0, rows - band + 1))
        part = slice(first, first + band)
        mean = totals[part, :, None] * (shares[part] @ spectra)
        drawn = generator.poisson(mean).astype(float)
        found = residual_windows(drawn, spectra, directions, sides, local=False)
        largest = [
            np.abs(windows.z).max(axis=(0, 1)) / np.maximum(scatter, 1.0) for windows, scatter in found
        ]
        return largest, [scatter for _, scatter in found]

    # NumPy leaves Python's lock in what takes long; products are too small to share.
    with single_thread(), ThreadPoolExecutor(2) as pool:
        largest, scatters = zip(*pool.map(one, range(N_SIMULATED)), strict=True)
    return np.asarray(largest), np.asarray(scatters).mean(axis=0)


def _best(
    observed: list[tuple[Windows, FloatArray]],
    scatters: FloatArray,
    relative: FloatArray,
    shape: tuple[int, int],
    threshold: float,
    false_alarm: float,
) -> Scan:
    """Pick the strongest residual around each pixel from all window sizes."""
    sigma, sign = np.zeros(shape), np.ones(shape)
    direction, side = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    spread = 1.0
    for (windows, scatter), expected, unit in zip(observed, scatters, relative, strict=True):
        wide = np.maximum(scatter / np.maximum(expected, 0.5), 1.0)
        spread = max(spread, float(wide.max()))
        scaled = windows.z / (wide * np.maximum(unit, SMALLEST))
        which = np.abs(scaled).argmax(axis=2)
        value = np.take_along_axis(scaled, which[..., None], axis=2)[..., 0]
        nearest = np.ix_(*(_nearest(c, size) for c, size in zip(windows.centres, shape, strict=True)))
        on_grid = value[nearest]
        higher = np.abs(on_grid) > sigma
        sigma = np.where(higher, np.abs(on_grid), sigma)
        sign = np.where(higher, np.sign(on_grid), sign)
        direction = np.where(higher, which[nearest], direction)
        side = np.where(higher, windows.side, side)
    return Scan(
        sigma=sigma,
        direction=direction,
        side=side,
        sign=sign,
        threshold=threshold,
        false_alarm=false_alarm,
        spread=spread,
    )


def _nearest(centres: IntArray, size: int) -> IntArray:
    """Index of the nearest centre for every pixel of a side."""
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.searchsorted(middle, np.arange(size)).astype(np.int64)
