"""One front for segmentation and abundances: clustering, NMF, constrained least squares, and the Bayesian mixture.

| method | model of a pixel | abundances |
|---|---|---|
| ``clustering`` | it is one cluster; `bayesunmix.inference.clustering` | probability of each cluster |
| ``nmf`` | a mixture of unknown spectra; `bayesunmix.inference.nmf` | shares, a point estimate |
| ``fcls`` | a mixture of given spectra; `bayesunmix.inference.fcls` | shares, a point estimate |
| ``bayes`` | a mixture whose shares have a learned prior; `bayesunmix.inference.pixel_posterior` | posterior |

All say the same words: ``labels``, ``abundances``, ``endmembers``. Abundances are shares of a pixel's counts: shares of
atoms need physics, which `bayesunmix.unmix` has. The two methods with mixture weights can learn from neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.core.errors import InputError, check_choice, check_flag, check_fraction, check_seed
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.data.counts import as_numbers
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.plain_map import BINS, PlainMap, ShareMaps, phase_names

FloatArray = npt.NDArray[np.float64]

SEGMENTATION_METHODS = ("clustering", "nmf", "fcls", "bayes")
# Methods whose pixels have prior weights that neighbours can change.
COUPLED = ("clustering", "bayes")


@dataclass(frozen=True, eq=False, repr=False)
class Segmentation(Summarised, ShareMaps):
    """Which phase each pixel is, and how much of each it holds.

    Parameters
    ----------
    method
        One of `SEGMENTATION_METHODS`.
    maps
        ``label`` (y, x), ``abundance`` (phase, y, x) in shares of counts; with ``bayes`` also ``sd``, ``lower``,
        ``upper`` and ``pure_probability`` (phase, y, x).
    spectra
        Endmembers (phase, energy), unit sum.
    """

    method: str
    maps: xr.Dataset
    spectra: xr.DataArray

    @property
    def endmembers(self) -> xr.DataArray:
        """Spectrum of each phase (phase, energy), unit sum."""
        return self.spectra

    def _summary(self) -> Summary:
        shares = self.abundances.mean(["y", "x"]).values
        parts = [
            f"{name} {100 * share:.3g} %"
            for name, share in zip(self.maps["phase"].values, shares, strict=True)
        ]
        return Summary(f"Segmentation ({self.method}): {', '.join(parts)} of the pixels' counts")


def segment(
    image: SpectrumImage | npt.ArrayLike,
    phases: int | Sequence[str] | None = None,
    *,
    method: str = "bayes",
    endmembers: npt.ArrayLike | None = None,
    spatial: bool = False,
    level: float = 0.95,
    bins: int = BINS,
    energy: npt.ArrayLike | None = None,
    seed: int = 0,
) -> Segmentation:
    """Label the pixels of a map and say how much of each phase they hold.

    Parameters
    ----------
    image
        Map, or counts (y, x, energy).
    phases
        Number of phases, or their names; may be left out where `endmembers` are given.
    method
        ``clustering``, ``nmf``, ``fcls`` or ``bayes``; see the module's table.
    endmembers
        Known spectra (phase, energy) in any unit, or posterior draws of them (draw, phase, energy) for ``bayes``.
        Without them ``fcls`` takes the most extreme cluster spectra (`bayesunmix.inference.starts`), and ``bayes``
        infers free-form ones (`bayesunmix.unmix_free`).
    spatial
        Let a pixel's prior weights depend on its neighbours (`bayesunmix.inference.spatial`); for ``clustering`` and
        ``bayes``. Endmembers are inferred without it.
    level
        Probability of the intervals of ``bayes``.
    bins
        Most energy bins; channels are merged in equal numbers.
    energy
        Energy of each channel of an array, in any unit.
    seed
        The same seed gives the same numbers.

    Returns
    -------
    Segmentation

    Raises
    ------
    InputError
        If something cannot be used: the message names it.

    Examples
    --------
    >>> counts = np.zeros((4, 6, 3), int)
    >>> counts[:, :3], counts[:, 3:] = [30, 8, 2], [1, 9, 30]
    >>> found = segment(counts, 2, method="clustering")
    >>> found.labels.values[0].tolist()
    [0, 0, 0, 1, 1, 1]
    """
    check_choice("method", method, SEGMENTATION_METHODS)
    level, seed, spatial = check_fraction("level", level), check_seed(seed), check_flag("spatial", spatial)
    if spatial and method not in COUPLED:
        raise InputError(
            "spatial",
            "be false for a method without mixture weights",
            f'is true for "{method}"',
            'Use "bayes".',
        )
    plain = PlainMap.of(image, bins=bins, energy=energy)
    known = None if endmembers is None else _known(plain, endmembers, method)
    names = phase_names(phases, None if known is None else known.shape[1])
    run = {"clustering": _clustering, "nmf": _nmf, "fcls": _fcls, "bayes": _bayes}[method]
    spectra, variables = run(plain, names, known, spatial, level=level, seed=seed)
    share = variables["abundance"]
    maps: dict[str, Any] = {
        name: (("phase", "y", "x"), plain.on_grid(value)) for name, value in variables.items()
    }
    maps["label"] = (("y", "x"), plain.on_grid(share.argmax(axis=1).astype(np.int16)))
    return Segmentation(
        method,
        xr.Dataset(maps, coords={"phase": list(names)}),
        xr.DataArray(
            plain.on_channels(spectra),
            dims=("phase", "energy"),
            coords={"phase": list(names), "energy": plain.energy},
        ),
    )


_Found = tuple[FloatArray, dict[str, npt.NDArray[Any]]]


def _known(plain: PlainMap, endmembers: npt.ArrayLike, method: str) -> FloatArray:
    """Given endmembers in bins, (draw, phase, bin), unit sum."""
    spectra = as_numbers("endmembers", endmembers)
    if method in ("clustering", "nmf"):
        raise InputError(
            "endmembers", "be left out for a method that finds its own", f'are given for "{method}"'
        )
    draws = 3 if method == "bayes" else 2
    if spectra.ndim not in (2, draws) or spectra.shape[-1] != len(plain.energy) or not spectra.size:
        must = f"have shape (phase, {len(plain.energy)})"
        raise InputError("endmembers", must, f"have shape {spectra.shape}")
    if not np.isfinite(spectra).all() or spectra.min() < 0 or not (spectra.sum(axis=-1) > 0).all():
        raise InputError("endmembers", "be finite, non-negative and not all zero", "are not")
    binned = plain.in_bins(spectra.reshape(-1, *spectra.shape[-2:]))
    return np.asarray(binned / binned.sum(axis=-1, keepdims=True))


def _clustering(
    plain: PlainMap, names: tuple[str, ...], known: FloatArray | None, spatial: bool, level: float, seed: int
) -> _Found:
    """Cluster; with neighbours, the probabilities are renewed with each pixel's own weights."""
    from bayesunmix.inference.clustering import cluster
    from bayesunmix.inference.spatial import neighbour_weights

    found = cluster(plain.counts, len(names), seed=seed)
    if len(found.spectra) < len(names):
        raise InputError(
            "phases",
            "be at most the number of clusters that hold more than a few pixels",
            f"are {len(names)} where the map holds {len(found.spectra)}",
        )
    probability = found.responsibilities
    if spatial:
        joint = (plain.counts.astype(np.float32) @ np.log(found.spectra).T.astype(np.float32)).astype(
            np.float32
        )
        weights = neighbour_weights(joint, found.weights, plain.used)[0]
        probability = weights * np.exp(joint - joint.max(axis=1, keepdims=True))
        probability = probability / probability.sum(axis=1, keepdims=True)
    return found.spectra, {"abundance": probability}


def _nmf(
    plain: PlainMap, names: tuple[str, ...], known: FloatArray | None, spatial: bool, level: float, seed: int
) -> _Found:
    """Factorise from the singular vectors and from random starts; the best fit is kept."""
    from bayesunmix.inference.nmf import kl_nmf

    fits = [kl_nmf(plain.counts, len(names))]
    fits += [kl_nmf(plain.counts, len(names), init="random", seed=seed + start) for start in range(2)]
    best = min(fits, key=lambda fit: fit.divergence)
    total = best.weights.sum(axis=1, keepdims=True)
    share = np.where(total > 0, best.weights / np.maximum(total, 1e-300), 1.0 / len(names))
    order = np.argsort(-best.weights.sum(axis=0), kind="stable")
    return best.spectra[order], {"abundance": share[:, order]}


def _fcls(
    plain: PlainMap, names: tuple[str, ...], known: FloatArray | None, spatial: bool, level: float, seed: int
) -> _Found:
    """Weighted constrained least squares on given spectra, or on the extreme ones of the clusters."""
    from bayesunmix.inference.fcls import fcls
    from bayesunmix.inference.starts import extreme_spectra

    if known is not None:
        spectra = known[0]
    elif len(names) == 1:
        spectra = plain.counts.sum(axis=0, dtype=float)[None] / plain.counts.sum(dtype=float)
    else:
        spectra = extreme_spectra(plain.counts, len(names), seed=seed, n_sets=1)[0].vertices
    return spectra, {"abundance": fcls(plain.counts, spectra, weights="poisson")}


def _bayes(
    plain: PlainMap, names: tuple[str, ...], known: FloatArray | None, spatial: bool, level: float, seed: int
) -> _Found:
    """Per-pixel posterior with given endmembers, or with free-form ones inferred from the map."""
    from bayesunmix.inference.pixel_posterior import pixel_posterior

    if known is None:
        from bayesunmix.analysis.free_unmixing import free_spectra

        known = free_spectra(plain, len(names), seed=seed)
    else:
        # A channel where no endmember has anything must not decide: log 0 would.
        known = (known + FLOOR_SHARE / known.shape[2]) / (1.0 + FLOOR_SHARE)
    found = pixel_posterior(
        plain.counts,
        known,
        np.ones(known.shape[:2]),
        level=level,
        neighbours=plain.used if spatial else None,
    )
    fields = {
        "abundance": "mean",
        "sd": "sd",
        "lower": "lower",
        "upper": "upper",
        "pure_probability": "pure_probability",
    }
    return known.mean(axis=0), {name: getattr(found, field) for name, field in fields.items()}


# Of a channel's share of the counts, as in `bayesunmix.models.endmember`.
FLOOR_SHARE = 1e-7
