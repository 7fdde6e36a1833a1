"""Fisher scoring for a spectrum that is linear in non-negative weights and smooth in a few other parameters.

    y_c ~ Poisson( sum_j w_j sum_{g in j} exp(rho_g) phi_gc(theta) + sum_b v_b q_bc ),    w, v >= 0,

with Gaussian priors on theta and rho and box bounds on theta. A step minimises the quadratic model over (theta, rho)
and the weights together: the smooth parameters are eliminated, the weights solve a non-negative least-squares problem.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

from bayesunmix.xray.response import Response

MOST_STEPS = 25
TOLERANCE = 0.2
# Expected counts below this are raised to it: a channel no column reaches must not be impossible.
LEAST_MEAN = 1e-3
STEP_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03)
# A slope is zero that is smaller than the largest by this.
ROUNDING = 1e-12
MOST_EXCHANGES = 6

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]
Respond = Callable[[Array], tuple[Response, float]]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Lines in groups, groups in columns, and a continuum.

    Parameters
    ----------
    energy_keV, area : (line,)
        Lines; the areas of a column add up to 1.
    group : (line,)
        Group of each line.
    bonded : (line,) bool
        Lines whose energy the bonding moves.
    owner : (group,)
        Column of each group.
    ratio_sd : (group,)
        Prior standard deviation of the group's log ratio; 0 where it is fixed.
    continuum : (hat, energy)
        Unit-area functions.
    stiffness : (row, hat)
        Rows P of a Gaussian prior exp(-|P v|^2 / 2) on the continuum's weights.
    edges : (energy + 1,)
        Edges of the channels in keV.
    """

    energy_keV: Array
    area: Array
    group: Indices
    bonded: npt.NDArray[np.bool_]
    owner: Indices
    ratio_sd: Array
    continuum: Array
    stiffness: Array
    edges: Array

    @property
    def number(self) -> int:
        """Number of columns."""
        return int(self.owner[-1]) + 1

    @property
    def adjustable(self) -> Indices:
        """Groups whose log ratio is a parameter."""
        return np.flatnonzero(self.ratio_sd > 0.0)

    def groups(self, response: Response, shift_keV: float) -> Array:
        """Spectra of the groups where bonding moves lines so far, shape (group, energy)."""
        energy = self.energy_keV + shift_keV * self.bonded
        return response.columns(energy, self.area, self.group, len(self.owner), self.edges)


@dataclass(frozen=True, kw_only=True)
class Box:
    """Prior, bounds and numerical steps of theta, arrays of shape (theta,)."""

    mean: Array
    sd: Array
    lowest: Array
    highest: Array
    step: Array


@dataclass(frozen=True)
class State:
    """Where the fit is: theta, log ratios of the adjustable groups, and weights of columns and continuum."""

    theta: Array
    log_ratio: Array
    weights: Array


class Problem:
    """A spectrum, its columns and priors.

    Parameters
    ----------
    counts : (energy,)
    columns : Columns
    box : Box
    respond
        Response of a theta, and the shift of the bonded lines in keV.
    """

    def __init__(self, counts: Array, columns: Columns, box: Box, respond: Respond) -> None:
        self.counts, self.columns, self.box, self.respond = counts, columns, box, respond
        self._latest = (np.empty(0), np.empty((0, 0)))

    def start(self, theta: Array, log_ratio: Array | None = None) -> State:
        """State at a theta and ratios, nominal ones by default, with the weights that fit best there."""
        ratios = np.zeros(len(self.columns.adjustable)) if log_ratio is None else log_ratio
        design = self.design(theta, ratios)[1]
        weights = np.zeros(len(design))
        mean = np.maximum(self.counts, 1.0)
        for _ in range(3):
            scaled = design / np.sqrt(mean)
            information = scaled @ scaled.T + self.prior_information
            weights = nonnegative_minimum(information, scaled @ (self.counts / np.sqrt(mean)))
            mean = np.maximum(weights @ design, 0.5)
        return State(theta, ratios, weights)

    @property
    def prior_information(self) -> Array:
        """Information of the prior about the weights, (column + hat, column + hat)."""
        stiff = self.columns.stiffness
        lines = self.columns.number
        whole = np.zeros((lines + stiff.shape[1],) * 2)
        whole[lines:, lines:] = stiff.T @ stiff
        return whole

    def design(self, theta: Array, log_ratio: Array) -> tuple[Array, Array]:
        """Group spectra scaled by their ratios, and the design: columns and continuum, (column + hat, energy)."""
        columns = self.columns
        factor = np.ones(len(columns.owner))
        factor[columns.adjustable] = np.exp(log_ratio)
        if not np.array_equal(theta, self._latest[0]):
            self._latest = (theta.copy(), columns.groups(*self.respond(theta)))
        groups = factor[:, None] * self._latest[1]
        # Groups of a column stand together.
        summed = np.add.reduceat(groups, np.searchsorted(columns.owner, np.arange(columns.number)))
        return groups, np.concatenate([summed, columns.continuum])

    def mean(self, state: State) -> Array:
        """Return the expected counts, shape (energy,)."""
        return np.asarray(state.weights @ self.design(state.theta, state.log_ratio)[1])

    def objective(self, state: State) -> float:
        """Half the deviance plus half the squared prior distances."""
        box, sd = self.box, self.columns.ratio_sd[self.columns.adjustable]
        prior = np.sum(((state.theta - box.mean) / box.sd) ** 2) + np.sum((state.log_ratio / sd) ** 2)
        prior += np.sum((self.columns.stiffness @ state.weights[self.columns.number :]) ** 2)
        return 0.5 * poisson_deviance(self.counts, self.mean(state)) + 0.5 * float(prior)

    def maximise(self, state: State) -> State:
        """Climb until a step gains less than the tolerance."""
        found, _ = climb(
            lambda *place: self.objective(State(*place)),
            lambda *place: self._target(State(*place)),
            (state.theta, state.log_ratio, state.weights),
            most_steps=MOST_STEPS,
            tolerance=TOLERANCE,
            lengths=STEP_LENGTHS,
        )
        return State(*found)

    def slopes(self, state: State) -> tuple[Array, Array]:
        """Design, and derivatives of the expected counts by theta and log ratios, shape (theta + ratio, energy)."""
        columns = self.columns
        groups, design = self.design(state.theta, state.log_ratio)
        here = state.weights @ design
        by_theta = []
        for place, step in enumerate(self.box.step):
            moved = state.theta.copy()
            moved[place] += step
            there = state.weights @ self.design(moved, state.log_ratio)[1]
            by_theta.append((there - here) / step)
        by_ratio = state.weights[columns.owner[columns.adjustable], None] * groups[columns.adjustable]
        return design, np.concatenate([np.array(by_theta), by_ratio])

    def information(self, slopes: Array, root: Array) -> tuple[Array, Array]:
        """Scaled slopes and their information with the prior's, shapes (smooth, energy) and (smooth, smooth)."""
        scaled = slopes / root
        sd = np.concatenate([self.box.sd, self.columns.ratio_sd[self.columns.adjustable]])
        return scaled, scaled @ scaled.T + np.diag(sd**-2.0)

    def _target(self, state: State) -> tuple[Array, Array, Array]:
        """Where the quadratic model is least: theta, log ratios and weights."""
        box, n_theta = self.box, len(self.box.mean)
        design, slopes = self.slopes(state)
        root = np.sqrt(np.maximum(state.weights @ design, LEAST_MEAN))
        b, information = self.information(slopes, root)
        here = np.concatenate([state.theta, state.log_ratio])
        sd = np.concatenate([box.sd, self.columns.ratio_sd[self.columns.adjustable]])
        centre = np.concatenate([box.mean, np.zeros(len(state.log_ratio))])
        smooth, weights = scoring_step(
            design / root,
            b,
            self.counts / root,
            here,
            information=information,
            pull=(centre - here) / sd**2,
            lowest=box.lowest,
            highest=box.highest,
            stiffness=self.prior_information,
        )
        return smooth[:n_theta], smooth[n_theta:], weights


def climb(
    objective: Callable[..., float],
    target: Callable[..., tuple[Array, ...]],
    place: tuple[Array, ...],
    *,
    most_steps: int,
    tolerance: float,
    lengths: tuple[float, ...],
) -> tuple[tuple[Array, ...], bool]:
    """Go towards the target of each place, by the first of some step lengths that lowers the objective.

    Returns
    -------
    place : tuple of array
    converged : bool
        Whether the last step gained less than the tolerance, or none would have gained.
    """
    least = objective(*place)
    for _ in range(most_steps):
        aim = target(*place)
        for length in lengths:
            trial = tuple(old + length * (new - old) for old, new in zip(place, aim, strict=True))
            reached = objective(*trial)
            if reached < least:
                break
        else:
            return place, True
        gain, least, place = least - reached, reached, trial
        if gain < tolerance:
            return place, True
    return place, False


def scoring_step(
    a: Array,
    b: Array,
    y: Array,
    here: Array,
    *,
    information: Array,
    pull: Array,
    lowest: Array,
    highest: Array,
    stiffness: Array | float = 0.0,
) -> tuple[Array, Array]:
    """Minimise the quadratic model over smooth parameters and non-negative weights together.

    Parameters
    ----------
    a, b, y : (column, energy), (smooth, energy), (energy,)
        Columns, slopes by the smooth parameters, and counts, all over the root of the expected counts.
    here : (smooth,)
        Smooth parameters now.
    information : (smooth, smooth)
        b b^T and the prior's.
    pull : (smooth,)
        Slope of the log prior.
    lowest, highest : (bounded,)
        Bounds of the first smooth parameters: one that would leave them is held there.
    stiffness : (column, column)
        Information of the prior about the weights.

    Returns
    -------
    smooth, weights : (smooth,), (column,)
    """
    bounded = len(lowest)
    change, free = np.zeros(len(here)), np.ones(len(here), bool)
    while True:
        # Linearised, counts = weights . a + change . b: the weights enter whole, the others as a change.
        held = change[~free] @ b[~free]
        gradient = b[free] @ (y - held) + pull[free]
        cross = a @ b[free].T
        eliminated = np.linalg.solve(information[np.ix_(free, free)], np.column_stack([cross.T, gradient]))
        weights = nonnegative_minimum(
            a @ a.T + stiffness - cross @ eliminated[:, :-1], a @ (y - held) - cross @ eliminated[:, -1]
        )
        change[free] = eliminated[:, -1] - eliminated[:, :-1] @ weights
        smooth = here + change
        inside = np.clip(smooth[:bounded], lowest, highest)
        outside = np.flatnonzero((inside != smooth[:bounded]) & free[:bounded])
        if not outside.size:
            smooth[:bounded] = inside
            return smooth, weights
        free[outside] = False
        change[outside] = inside[outside] - here[outside]


def nonnegative_minimum(
    information: Array, gradient: Array, support: npt.NDArray[np.bool_] | None = None
) -> Array:
    """Minimise w.G.w / 2 - g.w over w >= 0 through the Cholesky factor of G, scaled to a unit diagonal.

    Parameters
    ----------
    information, gradient : (weight, weight), (weight,)
        G and g.
    support : (weight,), optional
        Where the weights are thought to be positive: tried first, which costs little where it is right.
    """
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-300))
    unit, slope = information * np.outer(scale, scale) + 1e-10 * np.eye(scale.size), gradient * scale
    guessed = None if support is None else _exchanged(support, unit, slope)
    if guessed is not None:
        return guessed * scale
    try:
        factor = np.linalg.cholesky(unit)
        target = solve_triangular(factor, slope, lower=True)
    except np.linalg.LinAlgError:
        # Rounding leaves directions without any information a little below none.
        values, vectors = np.linalg.eigh(unit)
        root = np.sqrt(np.maximum(values, 1e-10 * values[-1]))
        factor, target = vectors * root, vectors.T @ slope / root
    return np.asarray(nnls(factor.T, target)[0] * scale)


def _exchanged(support: npt.NDArray[np.bool_], unit: Array, slope: Array) -> Array | None:
    """Exchange all weights that are on the wrong side of the support until none is, a few times; None if some are left.

    Block principal pivoting (Portugal, Judice and Vicente 1994, doi:10.1090/S0025-5718-1994-1250776-4).
    """
    zero = ROUNDING * np.abs(slope).max(initial=0.0)
    for _ in range(MOST_EXCHANGES):
        found = np.zeros(slope.size)
        try:
            found[support] = np.linalg.solve(unit[np.ix_(support, support)], slope[support])
        except np.linalg.LinAlgError:
            return None
        wrong = np.where(support, found < 0.0, slope - unit @ found > zero)
        if not wrong.any():
            return found
        support = support ^ wrong
    return None


def poisson_deviance(counts: Array, mean: Array) -> float:
    """Return 2 sum( y log(y / mu) - y + mu )."""
    mean = np.maximum(mean, LEAST_MEAN)
    ratio = np.where(counts > 0.0, counts, mean) / mean
    return 2.0 * float(np.sum(counts * np.log(ratio) - counts + mean))
