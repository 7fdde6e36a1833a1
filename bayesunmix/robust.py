"""Intervals that hold where a phase varies over the map: the model's draws, stretched where spatial tiles demand it.

Minerals are zoned, films wedge-shaped: the blocks of one corner of a map then share a departure from the mean, and
counting noise alone is too narrow for the mean composition. `bayesunmix.inference.sandwich` compares the scores of
some three dozen tiles with the model's curvature. Where a homogeneous map would hardly ever scatter so, and where a
standard deviation changes by more than a fifth, the draws are stretched; all tables and figures then come from the
stretched draws, with the model's own intervals beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.special import expit

from bayesunmix.inference.laplace import SMALLEST, CutGaussian, cut_gaussian
from bayesunmix.inference.mixture import atom_weights, relative_likelihood, responsibilities
from bayesunmix.inference.sandwich import Stretch, stretch_of, tile_labels
from bayesunmix.model_data import compiled_spectra
from bayesunmix.models.abundance import NOWHERE, log_weights
from bayesunmix.models.endmember import composition
from bayesunmix.models.unmixing import PixelGroup, UnmixingData, component_weights
from bayesunmix.posterior import Draws, FittedPosterior, read_draws
from bayesunmix.preparation import Setup
from bayesunmix.sampling import Drawn

FloatArray = npt.NDArray[np.float64]

N_TILES = 36
# Ratio of the standard deviations from which on the robust ones are used.
NOTICED = 1.2
# Blocks that the map's atom weights count for beside those of a tile.
MAP_BLOCKS = 2.0
WEIGHT_ITERATIONS = 40
# Homogeneous maps that are drawn for comparison.
N_NULL = 24
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
    facts : dict
        What run.json holds: ``used``, ``reason``, ``tiles``, ``significance``, and per phase and element the ratio of
        the robust standard deviation to the model's, of counting and unmixing alone.
    """

    drawn: Drawn
    model: Draws | None
    facts: dict[str, Any]


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
        return Robust(drawn, None, {"used": False, "reason": "The method gives no intervals."})
    target = cut_gaussian(fitted.estimate.z, fitted.estimate.hessian, fitted.model.blocks["line_units"])
    stretch, quantities = compare_tiles(setup, fitted, target, level, seed, n_tiles)
    if stretch is None:
        return Robust(drawn, None, {"used": False, "reason": "The map has too few blocks for tiles."})
    slopes = quantities.gradients @ np.linalg.cholesky(target.covariance)
    variance = stretch.stretched_variance(slopes)
    ratio = np.sqrt(variance / stretch.model_variance)
    used = bool(ratio.max(initial=1.0) > NOTICED)
    table = [
        {
            "phase": setup.phases[k].name,
            "element": setup.forward.elements[e],
            "sd_ratio": float(ratio[i]),
            "sd_ratio_untested": float(np.sqrt(stretch.robust_variance[i] / stretch.model_variance[i])),
        }
        for i, (k, e) in enumerate(quantities.places)
    ]
    facts = {
        "used": used,
        "reason": _reason(used, stretch, table),
        "tiles": stretch.tiles,
        "significance": stretch.significance,
        "directions": len(stretch.variances),
        "quantities": table,
    }
    if not used:
        return Robust(drawn, None, facts)
    z = stretched(drawn.z, target, stretch, fitted.model.blocks["line_units"])
    return Robust(replace(drawn, draws=read_draws(fitted, z), z=z), drawn.draws, facts)


@dataclass(frozen=True)
class Quantities:
    """Gradients (quantity, dim) of atom fractions in the bounded coordinates, and their phases and elements."""

    gradients: FloatArray
    places: list[tuple[int, int]]


def compare_tiles(
    setup: Setup, fitted: FittedPosterior, target: CutGaussian, level: float, seed: int, n_tiles: int
) -> tuple[Stretch | None, Quantities]:
    """Compare the scores of spatial tiles with the curvature, over the compositions of what is clearly there."""
    slope = np.ones(len(fitted.estimate.z))
    positive = fitted.model.blocks["line_units"]
    slope[positive] = expit(fitted.estimate.z[positive])
    quantities = _quantities(fitted, target, slope)
    position, shape = block_positions(setup)
    labels = tile_labels(shape, n_tiles).ravel()[position]
    found, labels = np.unique(labels, return_inverse=True)
    if len(quantities.places) == 0:
        return None, quantities
    tiles = Tiles.of(fitted, setup.blocks.counts.astype(np.float32), labels)
    still = fitted.model.blocks["abundance_xi"]

    def scores(counts: npt.NDArray[np.float32]) -> FloatArray:
        found = tiles.scores(counts) / slope
        found[:, still] = 0.0
        return found

    generator = np.random.default_rng([seed, 41])
    null = [scores(tiles.drawn(generator)) for _ in range(N_NULL)]
    root = np.asarray(np.linalg.cholesky(target.covariance), np.float64)
    phase = np.array([k for k, _ in quantities.places])
    by_phase = [quantities.gradients[phase == k] for k in np.unique(phase)]
    return stretch_of(scores(tiles.counts), null, root, by_phase, level=level), quantities


def block_positions(setup: Setup) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """Cell of each block in the grid of blocks, empty ones left out as in the counts, and the grid's shape."""
    index = setup.blocks.block_index
    counts = np.bincount(index.ravel(), weights=setup.image.total_counts.ravel())
    across = int(index[0, -1]) + 1
    return np.flatnonzero(counts > 0), (len(counts) // across, across)


def stretched(z: FloatArray, target: CutGaussian, stretch: Stretch, positive: slice) -> FloatArray:
    """Stretch draws about their mean in the coordinates in which the posterior is nearly normal.

    Parameters
    ----------
    z : (chain, draw, dim)
        Unconstrained draws.
    target : CutGaussian
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


def _quantities(fitted: FittedPosterior, target: CutGaussian, slope: FloatArray) -> Quantities:
    """Atom fractions with nominal calibration of the weights that are clearly above zero."""
    data, model = fitted.data, fitted.model
    n_elements = data.yields.shape[1]

    def fractions(z: jax.Array, data: UnmixingData) -> jax.Array:
        weights = component_weights(data, model.constrain(z, data))
        return composition(weights[:, :n_elements], jnp.asarray(data.yields))

    jacobian = np.asarray(jax.jit(jax.jacrev(fractions))(jnp.asarray(fitted.estimate.z), data))
    positive = model.blocks["line_units"]
    sd = np.sqrt(np.diag(target.covariance)[positive])
    clear = target.mean[positive] > CLEAR * sd
    places = [
        (int(k), int(e))
        for (k, e), seen in zip(np.asarray(data.free), clear, strict=True)
        if seen and e < n_elements
    ]
    gradients = np.array([jacobian[place] / slope for place in places]).reshape(-1, len(slope))
    return Quantities(gradients, places)


@dataclass(frozen=True)
class Tiles:
    """Blocks by tile, and the score of each tile's log-likelihood.

    Attributes
    ----------
    fitted : FittedPosterior
    counts : (block, energy) float32
    labels : (block,) int
    rows : (block, column) float32
        The blocks as the model holds them: their counts, and what it knows of each block besides.
    everywhere : (atom,)
        Weights of the atoms over the map.
    mixed : (atom, energy)
        Spectra at the atoms.
    gradient : callable
        Compiled gradient of the potential, (z, data) -> (dim,).
    """

    fitted: FittedPosterior
    counts: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    rows: npt.NDArray[np.float32]
    everywhere: FloatArray
    mixed: FloatArray
    gradient: Callable[[Any, Any], Any]

    @classmethod
    def of(
        cls, fitted: FittedPosterior, counts: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
    ) -> Tiles:
        """Collect the blocks from the model's groups."""
        rows = np.zeros((len(counts), fitted.data.groups[0].counts.shape[-1]), np.float32)
        for group in fitted.data.groups:
            held = np.asarray(group.present) > 0
            rows[_blocks_of(group.counts, group.present, counts)[held]] = np.asarray(group.counts)[held]
        sites = fitted.model.constrain(jnp.asarray(fitted.estimate.z), fitted.data)
        prior = fitted.data.prior
        everywhere = np.exp(np.asarray(log_weights(prior, sites["abundance_xi"])))
        mixed = prior.atoms @ np.asarray(compiled_spectra(fitted.data, sites))
        return cls(fitted, counts, labels, rows, everywhere, mixed, jax.jit(jax.grad(fitted.model.potential)))

    @property
    def number(self) -> int:
        """Number of tiles."""
        return int(self.labels.max()) + 1

    def scores(self, counts: npt.NDArray[np.float32]) -> FloatArray:
        """Score of each tile at the mode, (tile, dim), with atom weights of its own.

        Grains lie where they lie: the abundances of a tile are not those of the map, and with the map's atom weights
        its score would say so.
        """
        fitted, prior = self.fitted, self.fitted.data.prior
        likelihood = relative_likelihood(counts, self.mixed)
        most = int(np.bincount(self.labels).max())
        baseline = np.asarray(fitted.data.groups[0].baseline)[0]
        rows = self.rows.copy()
        rows[:, : counts.shape[1]] = counts
        found = []
        for tile in range(self.number):
            inside = self.labels == tile
            z = fitted.estimate.z.copy()
            z[fitted.model.blocks["abundance_xi"]] = self._log_odds(likelihood[inside])
            padded = np.zeros((most, rows.shape[1]), np.float32)
            padded[: inside.sum()] = rows[inside]
            group = PixelGroup(
                counts=padded[None],
                present=(np.arange(most) < inside.sum()).astype(float)[None],
                atoms=np.arange(len(prior.mean))[None],
                log_present=np.zeros((1, len(prior.mean))),
                baseline=baseline[None],
            )
            absent = group._replace(present=np.zeros((1, most)))
            with_tile, without = (
                np.asarray(self.gradient(jnp.asarray(z), fitted.data._replace(groups=(part,))))
                for part in (group, absent)
            )
            found.append(without - with_tile)
        return np.stack(found)

    def drawn(self, generator: np.random.Generator) -> npt.NDArray[np.float32]:
        """Counts of a map without variation: drawn from each block's posterior mean."""
        likelihood = relative_likelihood(self.counts, self.mixed)
        share = responsibilities(likelihood, 0.99 * self.everywhere + 0.01 / len(self.everywhere))
        mean = self.counts.sum(axis=1, keepdims=True) * (share @ self.mixed)
        return generator.poisson(mean).astype(np.float32)

    def _log_odds(self, likelihood: npt.NDArray[np.float32]) -> FloatArray:
        """Standardised log odds of a tile's atoms: its most probable ones, and the map's as a few blocks more."""
        prior = self.fitted.data.prior
        weights = atom_weights(likelihood, start=self.everywhere, n_iterations=WEIGHT_ITERATIONS)
        number = len(likelihood)
        weights = (number * weights + MAP_BLOCKS * self.everywhere) / (number + MAP_BLOCKS)
        odds = np.log(np.maximum(weights, 1e-300))
        # Padding has no weight anywhere; its log odds stay where they are.
        held = np.asarray(prior.mean) > NOWHERE / 2.0
        centred = np.where(held, odds - odds[held].mean() - prior.mean, 0.0)
        return np.asarray(np.linalg.solve(np.asarray(prior.factor), centred))


def _blocks_of(
    rows: npt.NDArray[np.float32], present: FloatArray, counts: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Block that each row of a group is: the group's chunks were sorted by what they hold.

    Rows of equal counts are interchangeable; padding gets any block, since it is not present.
    """
    known: dict[bytes, list[int]] = {}
    for number, row in enumerate(counts):
        known.setdefault(row.tobytes(), []).append(number)
    wide = np.asarray(rows)[..., : counts.shape[1]]
    found = np.zeros(present.shape, np.int64)
    for place in np.argwhere(np.asarray(present) > 0):
        same = known[np.ascontiguousarray(wide[tuple(place)]).tobytes()]
        found[tuple(place)] = same.pop() if len(same) > 1 else same[0]
    return found


def _reason(used: bool, stretch: Stretch, table: list[dict[str, Any]]) -> str:
    """Say why the robust intervals are used, or why not."""
    if not len(stretch.variances):
        return (
            f"{stretch.tiles} parts of the map scatter no more than a homogeneous sample would (p = "
            f"{stretch.significance:.2g}): the model's intervals are used."
        )
    worst = max(table, key=lambda row: float(row["sd_ratio"]))
    said = (
        f"{stretch.tiles} parts of the map differ from each other by more than a homogeneous sample would (p = "
        f"{stretch.significance:.2g}); most in {worst['element']} of {worst['phase']}, whose standard deviation from "
        f"counting and unmixing is {worst['sd_ratio']:.2g} times the model's"
    )
    if used:
        return f"{said}: the robust intervals are used."
    return f"{said}, less than a fifth more: the model's intervals are used."
