"""What the abundances of single pixels are inferred with: support points, their weights, and the mean endmembers.

Pixels at full resolution are purer than the blocks that inferred the endmembers, so the support points' weights are
learned anew from the pixels, at the mean of the draws. All that is random besides are the endmembers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import Rows
from bayesunmix.core.shares import shares_of
from bayesunmix.core.threads import single_thread
from bayesunmix.inference.mixture import relative_likelihood, support_point_weights
from bayesunmix.inference.spatial import Neighbourhood
from bayesunmix.models.abundance import simplex_support_points
from bayesunmix.models.thickness import ThicknessDraws, answered, counted

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Support points half a standard deviation apart: intervals of single pixels are read off them.
FINER = 4.0
BATCH_PIXELS = 16384
# Pixels that the weights over the map are learned from.
MOST_LEARNED_FROM = 20_000


@dataclass(frozen=True)
class PixelReader:
    """Counts and log spectra, with what thickness adds to both.

    Parameters
    ----------
    source : (pixel, energy)
    thickness : ThicknessDraws, optional
        Of the same pixels.
    """

    source: Rows
    thickness: ThicknessDraws | None

    def counts(self, chosen: slice) -> Float32Array:
        """Return the counts of some pixels, (pixel, energy), with the columns that thickness needs."""
        if self.thickness is None:
            return self.source[chosen].astype(np.float32)
        return counted(self.source[chosen], self.thickness.relative[chosen], self.thickness.effect)

    def log_mixed(self, points: FloatArray, spectra: FloatArray, draw: int | None = None) -> FloatArray:
        """Log spectra of the support points at one draw, or at the mean draw."""
        if self.thickness is None:
            return np.log(points @ spectra)
        _, effect, *parameters = self.thickness
        scale, exponent = (values.mean() if draw is None else values[draw] for values in parameters)
        return np.asarray(answered(points @ spectra, points, effect, scale, exponent))

    def log_likelihood(self, log_mixed: FloatArray, pixels: slice) -> Float32Array:
        """Log-likelihood of some pixels at the support points, up to a constant per pixel, (pixel, support_point)."""
        contrast = (log_mixed - log_mixed.mean(axis=0)).T.astype(np.float32)
        parts = [np.zeros((0, contrast.shape[1]), np.float32)]
        return np.concatenate([*parts, *(self.counts(batch) @ contrast for batch in batches(pixels))])


@dataclass(frozen=True, kw_only=True)
class PixelModel:
    """Support points of pixels and what their weights are.

    Attributes
    ----------
    support_points : (support_point, phase)
        In shares of a pixel's counts.
    weights : (support_point,)
        Over the map.
    spectra : (phase, energy)
        Mean endmembers, at which the weights were learned.
    scale, exponent : float
        Means of lambda and kappa of `bayesunmix.models.thickness`; 1 and 0 without thickness.
    window_shares : (window + 1,) or None
        What neighbours add, see `bayesunmix.inference.spatial`; None where they are not asked.
    """

    support_points: FloatArray
    weights: FloatArray
    spectra: FloatArray
    scale: float = 1.0
    exponent: float = 0.0
    window_shares: FloatArray | None = None

    @classmethod
    def learned(
        cls,
        counts: Rows,
        spectra: FloatArray,
        *,
        max_overlap: int = 2,
        matrix: npt.NDArray[np.bool_] | None = None,
        thickness: ThicknessDraws | None = None,
        neighbours: npt.NDArray[np.bool_] | None = None,
    ) -> PixelModel:
        """Learn the weights from the pixels.

        Parameters
        ----------
        counts : (pixel, energy)
        spectra : (phase, energy)
            Mean endmembers, unit sum.
        max_overlap, matrix, thickness, neighbours
            As in `bayesunmix.inference.pixel_posterior.pixel_posterior`.
        """
        reader = PixelReader(counts, thickness)
        total = sum(int(counts[batch].sum(dtype=np.int64)) for batch in batches(slice(0, len(counts))))
        typical = max(total / len(counts), 1.0)
        points = simplex_support_points(spectra, FINER * typical, max_overlap=max_overlap, matrix=matrix)
        at_mean = reader.log_mixed(points, spectra)
        weights = _map_weights(reader, at_mean)
        shares = None
        if neighbours is not None:
            shares = Neighbourhood.learned(
                lambda pixels: reader.log_likelihood(at_mean, pixels), weights, neighbours
            ).shares
        means = (1.0, 0.0) if thickness is None else (thickness.scale.mean(), thickness.exponent.mean())
        return cls(
            support_points=points,
            weights=weights,
            spectra=spectra,
            scale=float(means[0]),
            exponent=float(means[1]),
            window_shares=shares,
        )

    def at_mean(self, reader: PixelReader) -> FloatArray:
        """Log spectra of the support points at the mean endmembers."""
        if reader.thickness is None:
            return reader.log_mixed(self.support_points, self.spectra)
        mean = reader.thickness._replace(scale=np.array([self.scale]), exponent=np.array([self.exponent]))
        return PixelReader(reader.source, mean).log_mixed(self.support_points, self.spectra)

    def neighbourhood(self, reader: PixelReader, place: npt.NDArray[np.bool_]) -> Neighbourhood | None:
        """Return what pixels learn from their neighbours; None where they are not asked.

        Parameters
        ----------
        reader
            Of the pixels of `place`.
        place : (y, x) bool
            Where the pixels lie.
        """
        if self.window_shares is None:
            return None
        at_mean = self.at_mean(reader)
        return Neighbourhood(
            lambda pixels: reader.log_likelihood(at_mean, pixels), self.weights, place, self.window_shares
        )


def batches(pixels: slice) -> Iterator[slice]:
    """Yield batches that go through some pixels."""
    for first in range(pixels.start, pixels.stop, BATCH_PIXELS):
        yield slice(first, min(first + BATCH_PIXELS, pixels.stop))


def rotated_points(points: FloatArray, rotation: FloatArray) -> FloatArray:
    """Support points in a rotated simplex; those that would be outside are on its edge."""
    return shares_of(np.maximum(points @ np.linalg.inv(rotation), 0.0))


def _map_weights(reader: PixelReader, log_mixed: FloatArray) -> FloatArray:
    """Weights of the support points over the map, learned from evenly spaced pixels."""
    step = -(-len(reader.source) // MOST_LEARNED_FROM)
    likelihood = relative_likelihood(reader.counts(slice(None, None, step)), log_mixed)
    with single_thread():
        return support_point_weights(likelihood, n_iterations=60)
