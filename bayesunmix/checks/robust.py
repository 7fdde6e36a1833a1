"""Intervals that hold where a phase varies over the map: the model's draws, stretched where spatial tiles demand it.

Minerals are zoned, films wedge-shaped: the blocks of one corner of a map then share a departure from the mean, and
counting noise alone is too narrow for the mean composition. `bayesunmix.inference.sandwich` compares the scores of
some three dozen tiles with the model's curvature. Where a homogeneous map would hardly ever scatter so, and where a
standard deviation changes by more than a fifth, the draws are stretched; all tables and figures then come from the
stretched draws, with the model's own intervals beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from bayesunmix.checks.local_posterior import composition_slopes
from bayesunmix.checks.outcomes import Heterogeneity, SdRatio, SpectralDiscrepancy
from bayesunmix.config.phase import supports_of
from bayesunmix.core.rounding import times_text
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.draws import Draws, read_draws
from bayesunmix.fit.model_data import MOST_PROGRAMS, nominal_fractions, spectra_at
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.rotations import Rotations
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import N_TILES, Setup, block_tiles
from bayesunmix.inference.compilation import Program
from bayesunmix.inference.density import Placed, Programs
from bayesunmix.inference.laplace import SMALLEST, TruncatedGaussian, softplus_slope, truncated_gaussian
from bayesunmix.inference.mixture import relative_likelihood, responsibilities, support_point_weights
from bayesunmix.inference.sandwich import Stretch, stretch_of
from bayesunmix.inference.sharding import n_threads
from bayesunmix.models.thickness import N_COLUMNS, THINNEST, Array, answered, counted
from bayesunmix.models.unmixing import spectra, thickness_parameters

FloatArray = npt.NDArray[np.float64]

# Tiles whose slopes are taken back to the parameters together: one program for any number of them.
TILES_TOGETHER = 12
# Ratio of the standard deviations from which on the robust ones are used.
NOTICED = 1.2
# Blocks that the map's support point weights count for beside those of a tile.
MAP_BLOCKS = 2.0
WEIGHT_ITERATIONS = 40
# Homogeneous maps that are drawn for comparison.
N_NULL = 24
# Quantiles of rotated draws between which they hold another maximum, but for an error of the model's.
INNER = (0.025, 0.975)
# An amount that the draws know exactly, such as none, is missed by what differs by a millionth.
LEAST_SD = 1e-6
# A weight nearer to zero, in standard deviations, has no normal score.
CLEAR = 3.0


@dataclass(frozen=True)
class Robust:
    """The draws that are reported, and how they compare with the model's.

    Attributes
    ----------
    drawn : Drawn
        Stretched where `used`.
    model : Draws or None
        The model's own draws where the stretched ones are used.
    as_fitted : Draws or None
        The model's own draws of the best mode, where those that are reported are rotated, or hold another mode's too.
    one_solution : Draws or None
        The draws as they were before they were rotated, or mixed with another mode's, where they were.
    rotations : Rotations or None
        What the draws that are reported were rotated by, where the map leaves something open.
    second_share : float
        Share of the draws that are of a second maximum.
    without_misfit : Draws or None
        The draws as they were before they were moved for spectra that do not fit, where they were.
    discrepancy : SpectralDiscrepancy or None
        How far the spectra are off; None where that was not asked.
    heterogeneity : Heterogeneity
        How areas of the map differ.
    """

    drawn: Drawn
    model: Draws | None
    heterogeneity: Heterogeneity
    as_fitted: Draws | None = None
    one_solution: Draws | None = None
    rotations: Rotations | None = None
    second_share: float = 0.0
    without_misfit: Draws | None = None
    discrepancy: SpectralDiscrepancy | None = None

    @property
    def judged(self) -> Draws | None:
        """Draws that judge the fit, where they are not those reported: the mean of several solutions is no fit."""
        return self.model if self.as_fitted is None else self.as_fitted

    @property
    def own(self) -> Draws:
        """The model's own draws of the best mode."""
        return self.drawn.draws if self.judged is None else self.judged

    @property
    def fitted_spectra(self) -> FloatArray:
        """Endmembers of the reported draws as they were before they were rotated, (chain, draw, phase, energy)."""
        reported = self.drawn.draws.spectra
        if self.rotations is None or self.one_solution is None:
            return reported
        return np.where(self.rotations.identical[..., None], reported, self.one_solution.spectra)

    def holds(self, yields: npt.ArrayLike, atom_fractions: FloatArray) -> bool:
        """Whether compositions (phase, element) with nominal calibration factors lie in the best mode's intervals."""
        return not self.missed(yields, atom_fractions).any()

    def missed(self, yields: npt.ArrayLike, atom_fractions: FloatArray) -> FloatArray:
        """How far compositions lie beyond the best mode's intervals and an error, in errors, (..., phase, element).

        Another maximum that is a rotation of the best one is there because the priors of weights and abundances have
        it so: the prior of rotations stands in their place, and its draws are asked, beside the mode's own, which they
        may have left: what is as the mode is no other. Where nothing is rotated the mode's own are asked, whatever the
        reported ones hold besides. A phase without a composition, a support, is left out: its draws may still have
        what was taken from it afterwards.
        """
        by_element = np.asarray(yields)
        own = nominal_fractions(self.own.weights, by_element)
        lower, upper = np.quantile(own, INNER, axis=(0, 1))
        if self.rotations is not None:
            rotated = np.quantile(nominal_fractions(self.drawn.draws.weights, by_element), INNER, axis=(0, 1))
            lower, upper = np.minimum(lower, rotated[0]), np.maximum(upper, rotated[1])
        sd = own.std(axis=(0, 1))
        beyond = np.maximum(lower - sd - atom_fractions, atom_fractions - upper - sd)
        judged = (atom_fractions.sum(axis=-1, keepdims=True) > 0.0) & (beyond > 0.0)
        return np.where(judged, beyond / np.maximum(sd, LEAST_SD), 0.0)

    def opened(self, drawn: Drawn, rotations: Rotations | None) -> Robust:
        """Return the same with draws of several solutions in place of one."""
        one = self.drawn.draws if self.one_solution is None else self.one_solution
        return replace(self, drawn=drawn, as_fitted=self.own, one_solution=one, rotations=rotations)


def robust_draws(
    setup: Setup, fitted: FittedPosterior, drawn: Drawn, level: float, seed: int, *, n_tiles: int = N_TILES
) -> Robust:
    """Compare tiles with the model, and stretch the draws where they disagree.

    Parameters
    ----------
    setup, fitted, drawn
        Of the run.
    level : float
        Of the intervals.
    seed : int
    n_tiles : int
        About so many tiles.
    """
    if drawn.z is None:
        return Robust(drawn, None, Heterogeneity(reason="The method gives no intervals."))
    target = truncated_gaussian(fitted.estimate.z, fitted.estimate.hessian, fitted.model.places["line_units"])
    stretch, quantities = compare_tiles(
        setup=setup, fitted=fitted, target=target, level=level, seed=seed, n_tiles=n_tiles
    )
    if stretch is None:
        return Robust(
            drawn, None, Heterogeneity(reason="The map is too small to test for spatial heterogeneity.")
        )
    slopes = quantities.gradients @ np.linalg.cholesky(target.covariance)
    variance = stretch.stretched_variance(slopes)
    ratio = np.sqrt(variance / stretch.model_variance)
    used = bool(ratio.max(initial=1.0) > NOTICED)
    table = tuple(
        SdRatio(
            phase=setup.phases[k].name,
            element=setup.forward.elements[e],
            sd_ratio=float(ratio[i]),
            sd_ratio_untested=float(np.sqrt(stretch.robust_variance[i] / stretch.model_variance[i])),
        )
        for i, (k, e) in enumerate(quantities.places)
    )
    heterogeneity = Heterogeneity(
        widened=used,
        reason=_reason(used, stretch, table),
        areas=stretch.tiles,
        p_value=stretch.significance,
        directions=len(stretch.variances),
        quantities=table,
    )
    if not used:
        return Robust(drawn, None, heterogeneity)
    z = stretched(drawn.z, target, stretch, fitted.model.places["line_units"])
    return Robust(replace(drawn, draws=read_draws(fitted, z), z=z), drawn.draws, heterogeneity)


@dataclass(frozen=True)
class Quantities:
    """Gradients (quantity, dim) of atom fractions in the bounded coordinates, and their phases and elements."""

    gradients: FloatArray
    places: list[tuple[int, int]]


def compare_tiles(
    setup: Setup, fitted: FittedPosterior, target: TruncatedGaussian, level: float, seed: int, n_tiles: int
) -> tuple[Stretch | None, Quantities]:
    """Compare the scores of spatial tiles with the curvature, over the compositions of what is clearly there."""
    slope = np.ones(len(fitted.estimate.z))
    positive = fitted.model.places["line_units"]
    slope[positive] = softplus_slope(fitted.estimate.z[positive])
    quantities = _quantities(fitted, target, supports_of(setup.phases))
    labels = block_tiles(setup, n_tiles)
    if len(quantities.places) == 0:
        return None, quantities
    tiles = Tiles.of(fitted, setup.blocks.counts.astype(np.float32), setup.thickness.blocks, labels)

    def scores(counts: npt.NDArray[np.float32]) -> FloatArray:
        return np.asarray(tiles.scores(counts) / slope)

    own = scores(tiles.counts)
    with single_thread(), ThreadPoolExecutor(n_threads()) as pool:
        generators = (np.random.default_rng([seed, 41, number]) for number in range(N_NULL))
        null = list(pool.map(lambda generator: scores(tiles.drawn(generator)), generators))
    root = np.asarray(np.linalg.cholesky(target.covariance), np.float64)
    phase = np.array([k for k, _ in quantities.places])
    by_phase = [quantities.gradients[phase == k] for k in np.unique(phase)]
    return stretch_of(own, null, root, by_phase, level=level), quantities


def stretched(z: FloatArray, target: TruncatedGaussian, stretch: Stretch, positive: slice) -> FloatArray:
    """Stretch draws about their mean in the coordinates in which the posterior is nearly normal.

    Parameters
    ----------
    z : (chain, draw, dim)
        Unconstrained draws.
    target : TruncatedGaussian
        Its covariance whitens.
    stretch : Stretch
    positive : slice
        Coordinates that are softplus of z, and stay positive.
    """
    y = z.reshape(-1, z.shape[-1]).copy()
    y[:, positive] = np.logaddexp(0.0, y[:, positive])
    centre = y.mean(axis=0)
    root = np.linalg.cholesky(target.covariance)
    along = np.linalg.solve(root, (y - centre).T).T @ stretch.directions
    y += along * (np.sqrt(stretch.variances) - 1.0) @ (root @ stretch.directions).T
    inside = np.maximum(y[:, positive], SMALLEST)
    y[:, positive] = inside + np.log(-np.expm1(-inside))
    return y.reshape(z.shape)


def _quantities(
    fitted: FittedPosterior, target: TruncatedGaussian, supports: npt.NDArray[np.bool_]
) -> Quantities:
    """Atom fractions with nominal calibration of the weights that are clearly above zero, supports left out."""
    data, lines = fitted.data, fitted.model.places["line_units"]
    n_elements = data.yields.shape[1]
    weights = np.zeros(data.basis.allowed.shape)
    weights[data.free[:, 0], data.free[:, 1]] = data.scale * np.logaddexp(0.0, fitted.estimate.z[lines])
    slopes = data.scale * composition_slopes(data, fitted.atom_fractions, weights, data.free)
    sd = np.sqrt(np.diag(target.covariance)[lines])
    clear = target.mean[lines] > CLEAR * sd
    places = [
        (int(k), int(e))
        for (k, e), seen in zip(np.asarray(data.free), clear, strict=True)
        # A phase of one element is all of it, whatever the counts.
        if seen and e < n_elements and not supports[k] and slopes[k, e].any()
    ]
    gradients = np.zeros((len(places), len(fitted.estimate.z)))
    for row, place in zip(gradients, places, strict=True):
        row[lines] = slopes[place]
    return Quantities(gradients, places)


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Blocks by tile, and the score of each tile's log-likelihood.

    Attributes
    ----------
    fitted : FittedPosterior
    counts : (block, energy) float32
    labels : (block,) int
    relative : (block,)
        Thickness of the blocks over its mean.
    everywhere : (support_point,)
        Weights of the support points over the map.
    mixed : (support_point, energy)
        Spectra at the support points.
    log_mixed : (support_point, energy + columns)
        Their logarithms with what thickness adds, see `bayesunmix.models.thickness.answered`.
    """

    fitted: FittedPosterior
    counts: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    relative: FloatArray
    everywhere: FloatArray
    mixed: FloatArray
    log_mixed: FloatArray

    @classmethod
    def of(
        cls,
        fitted: FittedPosterior,
        counts: npt.NDArray[np.float32],
        relative: FloatArray,
        labels: npt.NDArray[np.int64],
    ) -> Tiles:
        """Collect the blocks and the mode."""
        data = fitted.data
        latents = fitted.model.constrain(fitted.estimate.z)
        points = data.prior.support_points
        mixed = points @ spectra_at(data, latents)
        answers = answered(mixed, points, data.effect, *thickness_parameters(data, latents))
        odds = data.prior.mean + data.prior.factor @ latents["abundance_xi"]
        return cls(
            fitted=fitted,
            counts=counts,
            labels=labels,
            relative=relative,
            everywhere=softmax(odds),
            mixed=mixed,
            log_mixed=np.asarray(answers),
        )

    @property
    def number(self) -> int:
        """Number of tiles."""
        return int(self.labels.max()) + 1

    def scores(self, counts: npt.NDArray[np.float32]) -> FloatArray:
        """Score of each tile at the mode, (tile, dim), with support point weights of its own.

            d log L_t / dz = sum_a (sum_b r_ba y_b) . d log m_a / dz       over blocks b of tile t and support points a

        with r the responsibilities and y the counts. Grains lie where they lie: the abundances of a tile are not those
        of the map, and with the map's support point weights its score would say so.
        """
        rows = counted(counts, self.relative, self.fitted.data.effect)
        likelihood = relative_likelihood(rows, self.log_mixed)
        summed = np.empty((self.number, *self.log_mixed.shape))
        for tile in range(self.number):
            inside = self.labels == tile
            share = responsibilities(likelihood[inside], self._weights(likelihood[inside]))
            summed[tile] = share.T @ rows[inside]
        return pulled_back(self.fitted, summed)

    def drawn(self, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """Draw counts of a map without variation, from each block's posterior mean."""
        return generator.poisson(self.expected).astype(np.float32)

    @cached_property
    def expected(self) -> FloatArray:
        """Posterior mean counts of each block, (block, energy)."""
        rows = counted(self.counts, self.relative, self.fitted.data.effect)
        likelihood = relative_likelihood(rows, self.log_mixed)
        share = responsibilities(likelihood, 0.99 * self.everywhere + 0.01 / len(self.everywhere))
        mean = (share @ self.mixed) * self.tilt(share)
        return np.asarray(mean * (self.counts.sum(axis=1, keepdims=True) / mean.sum(axis=1, keepdims=True)))

    def tilt(self, share: npt.NDArray[np.float32]) -> FloatArray:
        """Factor of thickness on the blocks' spectra at the mode, to first order, (block, energy)."""
        fitted = self.fitted
        effect = fitted.data.effect
        latents = fitted.model.constrain(fitted.estimate.z)
        scale, exponent = (float(value) for value in thickness_parameters(fitted.data, latents))
        mass = share @ fitted.data.prior.support_points @ effect.mass_per_count
        absorbed = scale * np.outer(self.relative * mass - 1.0, effect.absorption_slope)
        stray = exponent * np.outer(np.log(np.maximum(self.relative, THINNEST)), effect.stray_share)
        return np.asarray(np.maximum(1.0 + absorbed - stray, 0.01))

    def _weights(self, likelihood: npt.NDArray[np.float32]) -> FloatArray:
        """Support point weights of a tile: its most probable ones, and the map's as a few blocks more."""
        weights = support_point_weights(likelihood, start=self.everywhere, n_iterations=WEIGHT_ITERATIONS)
        number = len(likelihood)
        return (number * weights + MAP_BLOCKS * self.everywhere) / (number + MAP_BLOCKS)


def pulled_back(fitted: FittedPosterior, slopes: FloatArray) -> FloatArray:
    """Slopes in the log spectra of the support points at the mode as slopes in z.

    Parameters
    ----------
    fitted : FittedPosterior
    slopes : (tile, support_point, energy + columns)

    Returns
    -------
    (tile, dim)
    """
    model = fitted.model
    placed, z = model.light(fitted.data), model.filled(fitted.estimate.z)
    own = fitted.data.basis.family_templates.shape[2]
    n_points = slopes.shape[1]
    shape = len(placed.data.prior.mean), placed.data.basis.family_templates.shape[2] + N_COLUMNS
    found = np.empty((len(slopes), model.size))
    for first in range(0, len(slopes), TILES_TOGETHER):
        some = slopes[first : first + TILES_TOGETHER]
        more = np.zeros((TILES_TOGETHER, *shape))
        more[: len(some), :n_points, :own] = some[:, :, :own]
        more[: len(some), :n_points, -N_COLUMNS:] = some[:, :, own:]
        back = np.asarray(_pullback(model.programs)(z, placed, more))
        found[first : first + len(some)] = back[: len(some), : model.size]
    return found


@lru_cache(maxsize=MOST_PROGRAMS)
def _pullback(programs: Programs) -> Program:
    """Compiled transpose of the derivative of the log spectra of the support points, of several tiles at a time."""

    def log_mixed(z: jax.Array, placed: Placed) -> Array:
        data, latents = placed.data, programs.latents(z, placed.slots)
        points = jnp.asarray(data.prior.support_points)
        mixed = points @ spectra(data, latents)
        return answered(mixed, points, data.effect, *thickness_parameters(data, latents))

    def transposed(z: jax.Array, placed: Placed, slopes: jax.Array) -> jax.Array:
        back = jax.vjp(lambda z: log_mixed(z, placed), z)[1]
        every: jax.Array = jax.vmap(lambda slope: back(slope)[0])(slopes)
        return every

    return Program(transposed)


def _reason(used: bool, stretch: Stretch, table: Sequence[SdRatio]) -> str:
    """Say why the robust intervals are used, or why not."""
    if not len(stretch.variances):
        return (
            f"No spatial heterogeneity was found: {stretch.tiles} areas of the map differ no more than counting allows "
            f"for homogeneous phases (p = {stretch.significance:.2g}). The model's intervals are used."
        )
    worst = max(table, key=lambda row: row.sd_ratio)
    said = (
        f"Spatial heterogeneity: {stretch.tiles} areas of the map differ by more than counting allows for homogeneous "
        f"phases (p = {stretch.significance:.2g}), most in {worst.element} of {worst.phase}: its standard deviation "
        f"from counting and unmixing is {times_text(worst.sd_ratio)} the model's."
    )
    if used:
        return (
            f"{said} The intervals are widened for it. Look for zoning, a wedge or a second generation of grains, and "
            "unmix areas separately (`map.rows`, `map.columns`)."
        )
    return f"{said} That is less than a fifth more: the model's intervals are used."
