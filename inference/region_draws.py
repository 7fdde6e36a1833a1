"""Joint draws of the pixels of a region, whose weights of the support points are its own.

Over a whole map, pixels are draws of one distribution pi over the support points. Those of a grain are not: each of
them is drawn towards what most pixels of the map hold, all in the same direction, and the error of their mean is many
times what independent errors would make of it. So a region has weights of its own, which scatter about those of the
map by an amount c that its pixels tell,

    pi_R ~ Dirichlet(c pi),     z_p | pi_R ~ pi_R,     y_p | z_p ~ the counts of a pixel at support point z_p,

a Dirichlet-multinomial (Antoniak, C. E., Ann. Statist. 2 (1974) 1152, doi:10.1214/aos/1176342871, is its limit of many
support points; c is learned as in Escobar, M. D., West, M., J. Am. Stat. Assoc. 90 (1995) 577, from a grid). With one
pixel this is the pixel's own posterior; with c without end the pixels are independent again. It is sampled by Gibbs
sweeps over pi_R, z and c, which go on from one draw of the endmembers to the next.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.inference.pixel_draws import DrawnPixels, IntArray, PixelSet, quantile_points
from bayesunmix.inference.pixel_model import batches

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Values of c, in pixels: the map's weights count as much as so many pixels of the region. The prior is even.
CONCENTRATIONS = np.geomspace(1.0, 1000.0, 13)
# Sweeps before the first draw and before each of the others; fewer where a region is large.
BURN_IN, SWEEPS = 100, 12
# Likelihoods of a region are held in memory up to so many numbers; beyond, each sweep works them out again.
MOST_HELD = 20_000_000
# Support points that the map has hardly a use for are left out.
LEAST_WEIGHT = 1e-9


def draw_region(pixels: PixelSet, seed: int) -> Iterator[DrawnPixels]:
    """Yield each draw of the pixels of a region.

    Parameters
    ----------
    pixels : PixelSet
        Of the region, with weights (support_point,) of the whole map.
    seed : int
    """
    used = np.flatnonzero(pixels.weights > LEAST_WEIGHT)
    base = np.asarray(pixels.weights[used], np.float64) / pixels.weights[used].sum()
    generator = np.random.default_rng([seed, 73, len(pixels)])
    state = _State.begun(len(pixels), base)
    for draw in range(len(pixels.draws)):
        likelihood = _Likelihood(pixels, draw, used)
        for _ in range((SWEEPS if likelihood.held else 2) + (BURN_IN if draw == 0 else 0)):
            state.sweep(likelihood, base, generator)
        yield DrawnPixels(used[state.point], pixels.at(draw))


class _State:
    """What Gibbs sweeps go through: support points of the pixels, and c."""

    def __init__(self, point: IntArray, number: FloatArray, concentration: float) -> None:
        self.point, self.number, self.concentration = point, number, concentration

    @classmethod
    def begun(cls, n_pixels: int, base: FloatArray) -> _State:
        """Begin where the region's weights are those of the map."""
        return cls(np.zeros(n_pixels, np.int64), np.zeros(len(base)), float(CONCENTRATIONS[-1]))

    def sweep(self, likelihood: _Likelihood, base: FloatArray, generator: np.random.Generator) -> None:
        """Draw weights, support points and c, each given the others."""
        weights = generator.standard_gamma(self.concentration * base + self.number)
        weights /= weights.sum()
        for batch, values in likelihood.batches():
            share = responsibilities(values, weights)
            self.point[batch] = quantile_points(share, generator.uniform(size=len(share)))
        self.number = np.bincount(self.point, minlength=len(base)).astype(np.float64)
        odds = log_evidence(self.number, base)
        odds = np.exp(odds - odds.max())
        self.concentration = float(generator.choice(CONCENTRATIONS, p=odds / odds.sum()))


class _Likelihood:
    """Likelihoods of the pixels at the support points in one draw, held or worked out batch by batch."""

    def __init__(self, pixels: PixelSet, draw: int, used: IntArray) -> None:
        self._pixels, self._log_mixed = pixels, pixels.log_mixed(draw)[used]
        self.held = len(pixels) * len(used) <= MOST_HELD
        self._values = [*self._made()] if self.held else []

    def batches(self) -> Iterator[tuple[slice, Float32Array]]:
        """Yield batches of pixels and their likelihoods (pixel, support_point)."""
        yield from self._values if self.held else self._made()

    def _made(self) -> Iterator[tuple[slice, Float32Array]]:
        for batch in batches(slice(0, len(self._pixels))):
            yield batch, relative_likelihood(self._pixels.reader.counts(batch), self._log_mixed)


def log_evidence(number: FloatArray, base: FloatArray) -> FloatArray:
    """Log probability of the numbers of pixels at the support points at each c, up to a constant, (concentration,).

    Parameters
    ----------
    number : (support_point,)
        Pixels at each of them.
    base : (support_point,)
        The map's weights.
    """
    held = number > 0.0
    prior = CONCENTRATIONS[:, None] * base[held]
    of_points = (gammaln(prior + number[held]) - gammaln(prior)).sum(axis=1)
    return np.asarray(of_points + gammaln(CONCENTRATIONS) - gammaln(CONCENTRATIONS + number.sum()))
