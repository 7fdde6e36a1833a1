"""Joint draws of the pixels of a finished result, from what it keeps and the counts of its map.

Two priors of a pixel's abundances are at hand. That of the map is the one behind `Result.abundances`: each pixel is
drawn by itself, and gets the same draw whatever else is asked for (`bayesunmix.inference.pixel_draws`). That of the
region lets the pixels that are asked for together have weights of their own (`bayesunmix.inference.region_draws`):
means over them are then free of what the rest of the map holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.linalg import block_diag

from bayesunmix.core.disk_array import Picked, Rows
from bayesunmix.core.errors import warn
from bayesunmix.core.shares import shares_of
from bayesunmix.core.threads import single_thread
from bayesunmix.data.binning import bin_channels
from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.inference.pixel_draws import (
    DrawnPixels,
    EndmemberDraws,
    PixelSet,
    Uniforms,
    draw_pixels,
    gamma_factors,
    own_normals,
    own_uniforms,
    shared_uniforms,
)
from bayesunmix.inference.pixel_model import PixelModel, PixelReader, batches
from bayesunmix.inference.region_draws import draw_region
from bayesunmix.models.thickness import ThicknessDraws, ThicknessEffect
from bayesunmix.results.map_counts import AnyMap, stored_pixels, unmixed_map

if TYPE_CHECKING:
    from bayesunmix.data.image import SpectrumImage
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

PRIORS = ("region", "map")
Prior = Literal["region", "map"]
# Random numbers of pixels are apart from all others of the run.
_STREAM = 7919
_KEPT = "_joint_draws"
LEAST_SHARED = 4096


@dataclass(frozen=True)
class PixelDraw:
    """One draw of some pixels.

    Attributes
    ----------
    abundance : (pixel, phase)
        In shares of atoms; where something that is of no phase was set aside, they add up to less than 1.
    atoms : (pixel,)
        Atoms of the declared elements in the pixel, in a common unit.
    """

    abundance: FloatArray
    atoms: FloatArray


@dataclass(frozen=True, eq=False)
class JointDraws:
    """All that abundances of the pixels of a result are drawn from.

    Parameters
    ----------
    stored
        Group ``pixels`` of the result.
    image
        The map, cut to the energies that were fitted.
    seed
        Of the run.
    """

    stored: xr.Dataset
    image: SpectrumImage
    seed: int

    @property
    def shape(self) -> tuple[int, int]:
        """Chains and draws."""
        return self.stored.sizes["chain"], self.stored.sizes["draw"]

    @property
    def used(self) -> Mask:
        """Pixels (y, x) that take part."""
        return self.image.used

    @cached_property
    def places(self) -> npt.NDArray[np.int16]:
        """Number of the place that a pixel (y, x) is of, -1 where it is of none."""
        if "place" in self.stored:
            return np.asarray(self.stored["place"].values, np.int16)
        return np.full(self.used.shape, -1, np.int16)

    def thinned(self, number: int) -> JointDraws:
        """Return the same with at most so many draws of all chains, evenly spaced."""
        chains, draws = self.shape
        kept = min(max(number // chains, 1), draws)
        chosen = np.unique(np.linspace(0, draws - 1, kept).astype(int))
        return JointDraws(self.stored.isel(draw=chosen), self.image, self.seed)

    @property
    def starts(self) -> IntArray:
        """First channel of each bin, counted from the first that was fitted."""
        return np.asarray(self.stored["first_channel"].values - int(self.stored.attrs["channels"][0]))

    @cached_property
    def binned(self) -> Rows:
        """Counts of every pixel in the fitted bins, (pixel, energy)."""
        return bin_channels(self.image, np.append(self.starts, self.image.n_channels))

    @cached_property
    def endmembers(self) -> EndmemberDraws:
        """Draws of the endmembers."""
        number = self.stored["chain"].values[:, None] * 1_000_000 + self.stored["draw"].values
        rotation = self._flat("rotation") if "rotation" in self.stored else None
        return EndmemberDraws(
            number=number.ravel().astype(np.int64),
            spectra=self._flat("spectra"),
            atoms_per_count=self._flat("atoms_per_count"),
            rotations=rotation,
        )

    @staticmethod
    def threads(n_pixels: int) -> AbstractContextManager[object]:
        """Context in which so many pixels are drawn: products of few are too small to be shared by cores."""
        return single_thread() if n_pixels < LEAST_SHARED else nullcontext()

    def draws(self, pixels: IntArray, prior: Prior = "region", *, joint: bool = True) -> Iterator[PixelDraw]:
        """Yield each draw of some pixels, chain after chain.

        Parameters
        ----------
        pixels : (pixel,)
            Their numbers on the map, ascending; all of them take part.
        prior
            ``region``: the pixels have weights of their own; ``map``: each is drawn by itself.
        joint
            Whether neighbours that learn from each other share errors; without, each pixel stands for itself.
        """
        place = self.places.ravel()[pixels]
        parts = [(number, np.flatnonzero(place == number)) for number in np.unique(place)]
        streams = [self._of_place(int(number), pixels[at], prior, joint) for number, at in parts]
        normals = own_normals(pixels, self.seed + _STREAM)
        totals = self.image.total_counts.ravel()[pixels].astype(float)
        n_phases = self.stored.sizes["phase"]
        for number, drawn in zip(self.endmembers.number, zip(*streams, strict=True), strict=True):
            abundance, atoms = np.empty((len(pixels), n_phases)), np.empty(len(pixels))
            for (_, at), one in zip(parts, drawn, strict=True):
                abundance[at] = one.values.abundance[one.point][:, :n_phases]
                atoms[at] = one.values.atoms[one.point]
            yield PixelDraw(abundance, atoms * totals * gamma_factors(totals, normals(int(number))))

    def spectra_of(self, pixels: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the counts of some pixels in the fitted bins (energy,), and what is expected: by phase, and in all.

        Expected are the mean endmembers with each pixel's mean abundances there.
        """
        place = self.places.ravel()[pixels]
        n_phases, n_bins = self.stored.sizes["phase"], self.stored.sizes["energy_bin"]
        observed, by_phase, total = np.zeros(n_bins), np.zeros((n_phases, n_bins)), np.zeros(n_bins)
        for number in np.unique(place):
            chosen = self._set(int(number), pixels[place == number])
            model, reader = chosen.model, chosen.reader
            at_mean = model.at_mean(reader)
            for batch in batches(slice(0, len(chosen))):
                counts = np.asarray(chosen.counts[batch])
                likelihood = relative_likelihood(reader.counts(batch), at_mean)
                amount = counts.sum(axis=1) @ (
                    responsibilities(likelihood, model.weights) @ model.support_points
                )
                parts = amount[:, None] * model.spectra
                observed += counts.sum(axis=0)
                by_phase += parts[:n_phases]
                total += parts.sum(axis=0)
        return observed, by_phase, total

    def weighted_spectra(self, weights: npt.NDArray[np.floating]) -> FloatArray:
        """Return unit-sum spectra (phase, energy) of the channels, pixels weighted by (phase, y, x)."""
        total = np.zeros((len(weights), self.image.n_channels))
        for part, band in self.image.bands():
            # One row at a time: the map in floating point may not fit into memory.
            for row, counts in zip(range(part.start, part.stop), band, strict=True):
                total += weights[:, row].astype(np.float64) @ counts
        return shares_of(total)

    def labelled(self, values: npt.NDArray[Any], dims: tuple[str, ...], **coords: Any) -> xr.DataArray:  # noqa: ANN401
        """Give values (draw, ...) of all chains their dimensions and names."""
        chains, draws = self.shape
        own = {"chain": self.stored["chain"].values, "draw": self.stored["draw"].values}
        return xr.DataArray(
            values.reshape(chains, draws, *values.shape[1:]),
            dims=("chain", "draw", *dims),
            coords=own | coords,
        )

    def _flat(self, name: str) -> FloatArray:
        values = self.stored[name].values
        return np.asarray(values.reshape(-1, *values.shape[2:]), np.float64)

    def _of_place(self, place: int, pixels: IntArray, prior: Prior, joint: bool) -> Iterator[DrawnPixels]:
        """Yield the draws of the pixels of one place, or of none (-1)."""
        if place >= 0:
            chosen = self._set(place, pixels)
            return draw_pixels(chosen, own_uniforms(pixels, self.seed + _STREAM), self.seed)
        if prior == "region" and len(pixels) > 1:
            return draw_region(self._set(place, pixels), self.seed + _STREAM)
        weights, uniforms = self._by_neighbours(pixels, joint)
        return draw_pixels(self._set(place, pixels, weights), uniforms, self.seed)

    def _set(self, place: int, pixels: IntArray, weights: npt.NDArray[np.floating] | None = None) -> PixelSet:
        """Collect some pixels of a place, with weights of their own where there are some."""
        model, draws = self._model(place), self.endmembers
        mass, supports = self.stored["mass_per_count"].values, self.stored["support"].values.astype(bool)
        if place >= 0:
            # Something of which nothing is known absorbs like the mean of the map, and holds no atoms.
            mass, supports = np.append(mass, 1.0), np.append(supports, True)
            beside = np.broadcast_to(
                self.stored["place_spectrum"].values[place], (len(draws), 1, model.spectra.shape[1])
            )
            turned = draws.rotations
            draws = EndmemberDraws(
                number=draws.number,
                spectra=np.concatenate([draws.spectra, beside], axis=1),
                atoms_per_count=np.concatenate([draws.atoms_per_count, np.zeros((len(draws), 1))], axis=1),
                rotations=None if turned is None else np.stack([block_diag(m, 1.0) for m in turned]),
            )
        return PixelSet(
            counts=Picked(self.binned, pixels),
            thickness=self._thickness(pixels, mass),
            model=model,
            draws=draws,
            supports=supports,
            weights=model.weights if weights is None else weights,
        )

    def _thickness(self, pixels: IntArray, mass: FloatArray) -> ThicknessDraws:
        effect = ThicknessEffect(
            self.stored["absorption_slope"].values,
            self.stored["stray_share"].values,
            mass,
            float(self.stored.attrs["scale_sd"]),
        )
        relative = self.stored["relative_thickness"].values.ravel()[pixels].astype(np.float64)
        return ThicknessDraws(relative, effect, self._flat("absorption_scale"), self._flat("stray_exponent"))

    def _model(self, place: int) -> PixelModel:
        """Return what the pixels of a place were inferred with."""
        stored = self.stored
        of_place = stored["support_point_place"].values == place
        points, spectra = stored["support_point"].values[of_place], stored["mean_spectrum"].values
        if place >= 0:
            spectra = np.concatenate([spectra, stored["place_spectrum"].values[place][None]])
        return PixelModel(
            support_points=points[:, : len(spectra)],
            weights=stored["support_point_weight"].values[of_place],
            spectra=spectra,
            scale=float(stored["mean_absorption_scale"]),
            exponent=float(stored["mean_stray_exponent"]),
            window_shares=stored["window_share"].values if place < 0 and "window_share" in stored else None,
        )

    def _by_neighbours(
        self, pixels: IntArray, joint: bool
    ) -> tuple[npt.NDArray[np.floating] | None, Uniforms]:
        """Weights and uniform numbers of some pixels, from their neighbours where these are heard."""
        seed, model = self.seed + _STREAM, self._model(-1)
        if model.window_shares is None:
            return None, own_uniforms(pixels, seed)
        fitted = self.used & (self.places < 0)
        inside = np.flatnonzero(fitted)
        reader = PixelReader(
            Picked(self.binned, inside), self._thickness(inside, self.stored["mass_per_count"].values)
        )
        near = model.neighbourhood(reader, fitted)
        assert near is not None
        rows = pixels // fitted.shape[1]
        weights, trust = [], []
        for band in near.bands():
            first, last = max(band.start, int(rows.min())), min(band.stop, int(rows.max()) + 1)
            if first < last:
                part = slice(first, last)
                at = np.searchsorted(inside[near.pixels(part)], pixels[(rows >= first) & (rows < last)])
                weights.append(near.weights(part)[at])
                if joint:
                    trust.append(near.trust(part)[at])
        if not joint:
            return np.concatenate(weights), own_uniforms(pixels, seed)
        heard = np.concatenate(trust)
        return np.concatenate(weights), shared_uniforms(pixels, heard, fitted.shape, fitted, seed)


def kind_of_draws(result: Result) -> str:
    """Return what a result's values of places are: ``draws``, or the ``point`` that the method "map" gives."""
    return "point" if result.record.method == "map" else "draws"


def warn_of_point(result: Result) -> None:
    """Warn where a place has one value in place of draws: what is read off it as an interval has no width."""
    if kind_of_draws(result) == "point":
        warn(
            'Method "map" gives a single value of a place and no draws: it has no interval. Run '
            '`method = "laplace"` or "nuts" for these.'
        )


def joint_draws(result: Result, image: AnyMap | None = None) -> JointDraws:
    """Return what the pixels of a result are drawn from; its map is read once.

    Parameters
    ----------
    result, image
        As in `bayesunmix.results.map_counts.unmixed_map`.

    Raises
    ------
    InputError
        If the map is not there, or is another one.
    """
    kept = vars(result)
    if _KEPT in kept and (image is None or image is kept[_KEPT][0]):
        found: JointDraws = kept[_KEPT][1]
        return found
    found = JointDraws(stored_pixels(result), unmixed_map(result, image), result.record.seed)
    kept[_KEPT] = image, found
    return found
