"""Unmix a map without physics: free-form endmembers with intervals, abundances, and what the counts leave open.

For EELS, cathodoluminescence, or X-ray maps whose lines nobody wants to declare. Where lines are known, `unmix` with
``inference={"endmembers": "free"}`` infers the same endmembers and reads compositions off them by the line model.

What is open. Take a share e of phase l's spectrum out of phase k's, and give k's pixels more of l: the counts fit as
well, as long as no channel of (s_k - e s_l) / (1 - e) falls below zero. Only pixels that are known to be pure end
this freedom (Lawton, W. H., Sylvestre, E. A., Technometrics 13 (1971) 617, doi:10.1080/00401706.1971.10488823, for
the band of feasible solutions). `FreeUnmixing.room` is the largest e: a lack of some line or edge of l makes it small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.config.phase import Phase
from bayesunmix.core.errors import (
    InputError,
    check_flag,
    check_fraction,
    check_integer,
    check_positive,
    check_seed,
    warn,
)
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.core.threads import ONE_MODEL
from bayesunmix.data.binning import pixel_bins
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.plain_map import BINS, PlainMap, ShareMaps, phase_names

FloatArray = npt.NDArray[np.float64]

COUNTS_PER_BLOCK = 1000.0
# Fewer blocks than a run with physics keeps: extreme spectra are sought among them, and need counts.
FEWEST_BLOCKS = 300
# Longest correlation of the contrasts, in bins.
LONGEST_SMOOTH = 1e6
# Posterior draws of the endmembers that the per-pixel pass averages over.
PIXEL_DRAWS = 24
# Bands in which a phase must hold something of another to hide it: each with this share of the other's counts.
BAND_SHARE = 0.02
# Room that is worth a word: as large as the error of a usual composition.
NOTABLE_ROOM = 0.05
# A phase that is pure in fewer pixels than this is pure nowhere.
FEWEST_PURE = 3.0


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class FreeUnmixing(Summarised, ShareMaps):
    """Free-form endmembers of a map, abundances, and what the counts leave open.

    Parameters
    ----------
    endmembers
        ``mean``, ``lower``, ``upper`` (phase, energy), unit sum, on the map's channels.
    maps
        ``abundance``, ``sd``, ``lower``, ``upper``, ``pure_probability`` (phase, y, x) in shares of counts, and
        ``label`` (y, x).
    room
        Largest share of another phase's spectrum that may hide in a phase's (phase, other); 0 for a phase that was
        declared to have pure pixels.
    draws
        Posterior draws of the endmembers in merged channels (draw, phase, bin).
    notes
        What to know before the result is used, in sentences.
    """

    endmembers: xr.Dataset
    maps: xr.Dataset
    room: xr.DataArray
    draws: xr.DataArray
    notes: tuple[str, ...]

    @property
    def pure_pixels(self) -> xr.DataArray:
        """Expected number of pixels that are one phase alone (phase,), if the endmembers are those found."""
        return self.maps["pure_probability"].sum(["y", "x"])

    def _summary(self) -> Summary:
        lines = []
        shares = self.abundances.mean(["y", "x"])
        for name, share, pure in zip(
            shares["phase"].values, shares.values, self.pure_pixels.values, strict=True
        ):
            lines.append(f"{name}: {100 * share:.3g} % of the counts, {pure:.0f} pure pixels")
        return Summary("Free-form unmixing", lines=(*lines, *self.notes))


def unmix_free(
    image: SpectrumImage | npt.ArrayLike,
    phases: int | Sequence[str] | Sequence[Phase],
    *,
    energy: npt.ArrayLike | None = None,
    bins: int = BINS,
    smooth: float = 4.0,
    max_overlap: int = 2,
    spatial: bool = False,
    level: float = 0.95,
    draws: int = 400,
    seed: int = 0,
) -> FreeUnmixing:
    """Unmix a map into free-form endmembers.

    The model is that of `bayesunmix.models.freeform`: pixels are multinomial mixtures of K non-negative spectra, whose
    log contrasts with the whole map's spectrum have a smooth prior; abundances are integrated out. The posterior is
    Laplace's around the best mode of several starts.

    Parameters
    ----------
    image
        Map, or counts (y, x, energy): whole numbers, neither background-subtracted nor scaled.
    phases
        Number of phases, their names, or `bayesunmix.Phase` objects, of which ``matrix`` is used: it declares that
        pure pixels of this phase exist. The endmember of most counts is taken for it.
    energy
        Energy of each channel of an array, in any unit.
    bins
        Most energy bins; channels are merged in equal numbers.
    smooth
        Correlation length of the contrasts, in bins.
    max_overlap
        Most phases that overlap finely resolved in one pixel.
    spatial
        Let a pixel's abundances learn from its neighbours (`bayesunmix.inference.spatial`).
    level
        Probability of the intervals.
    draws
        Posterior draws.
    seed
        The same seed gives the same numbers.

    Returns
    -------
    FreeUnmixing

    Raises
    ------
    InputError
        If something cannot be used: the message names it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> share = np.linspace(0.0, 1.0, 12)[:, None]
    >>> counts = rng.poisson(300 * (share * [0.7, 0.2, 0.1] + (1 - share) * [0.1, 0.2, 0.7]), (12, 12, 3))
    >>> result = unmix_free(counts, 2, draws=50)  # doctest: +SKIP
    >>> result.abundances.shape  # doctest: +SKIP
    (2, 12, 12)
    """
    level, draws = check_fraction("level", level), check_integer("draws", draws, low=2)
    # Contrasts that hang together over far more bins than there are cannot be told from each other.
    smooth = check_positive("smooth", smooth, high=LONGEST_SMOOTH)
    max_overlap = check_integer("max_overlap", max_overlap, low=1)
    seed, spatial = check_seed(seed), check_flag("spatial", spatial)
    names, matrix = _declared(phases)
    plain = PlainMap.of(image, bins=bins, energy=energy)
    from bayesunmix.inference.pixel_posterior import pixel_posterior

    with ONE_MODEL:
        spectra, coarse = _drawn(
            plain=plain, matrix=matrix, smooth=smooth, max_overlap=max_overlap, draws=draws, seed=seed
        )
    chosen = spectra[np.unique(np.linspace(0, draws - 1, PIXEL_DRAWS).astype(int))]
    pixels = pixel_posterior(
        plain.counts,
        chosen,
        np.ones(chosen.shape[:2]),
        level=level,
        max_overlap=max_overlap,
        matrix=matrix,
        neighbours=plain.used if spatial else None,
    )
    fields = {"abundance": pixels.mean} | {
        name: getattr(pixels, name) for name in ("sd", "lower", "upper", "pure_probability")
    }
    maps = {name: (("phase", "y", "x"), plain.on_grid(value)) for name, value in fields.items()}
    label = plain.on_grid(pixels.mean.argmax(axis=1).astype(np.int16))
    room = np.where(matrix[:, None], 0.0, hidden_room(spectra, level))
    notes = _notes(names, room, pixels.pure_probability.sum(axis=0), matrix, coarse)
    for note in notes:
        warn(note)
    phase = {"phase": list(names)}
    return FreeUnmixing(
        endmembers=_endmembers(plain, spectra, level, names),
        maps=xr.Dataset(maps | {"label": (("y", "x"), label)}, coords=phase),
        room=xr.DataArray(room, dims=("phase", "other"), coords={**phase, "other": list(names)}),
        draws=xr.DataArray(spectra, dims=("draw", "phase", "bin"), coords=phase),
        notes=notes,
    )


def free_spectra(plain: PlainMap, n_phases: int, *, seed: int, draws: int = PIXEL_DRAWS) -> FloatArray:
    """Posterior draws of free-form endmembers in bins, (draw, phase, bin)."""
    return _drawn(
        plain=plain, matrix=np.zeros(n_phases, bool), smooth=4.0, max_overlap=2, draws=draws, seed=seed
    )[0]


def hidden_room(spectra: FloatArray, level: float) -> FloatArray:
    """Largest share of one phase's spectrum that may hide in another's, (phase, other), zeros on the diagonal.

    For each pair the smallest of the upper quantiles of s_k / s_l in bands that hold `BAND_SHARE` of s_l each.

    Parameters
    ----------
    spectra : (draw, phase, energy)
    level : float
        Probability of the bound.
    """
    n_phases = spectra.shape[1]
    room = np.zeros((n_phases, n_phases))
    for other in range(n_phases):
        cumulative = np.cumsum(spectra[:, other].mean(axis=0))
        band = np.minimum((cumulative - 1e-12) // BAND_SHARE, 1.0 // BAND_SHARE - 1.0).astype(int)
        firsts = np.flatnonzero(np.diff(band, prepend=-1))
        in_band = np.add.reduceat(spectra, firsts, axis=2)
        for phase in range(n_phases):
            if phase != other:
                # The quantile comes first: the smallest of many noisy ratios would be too small.
                held = np.quantile(in_band[:, phase] / in_band[:, other], level, axis=0)
                room[phase, other] = min(float(held.min()), 1.0)
    return room


def _declared(
    phases: int | Sequence[str] | Sequence[Phase],
) -> tuple[tuple[str, ...], npt.NDArray[np.bool_]]:
    """Names of the phases, and which are declared to have pure pixels; the matrix comes first in a start."""
    if isinstance(phases, Sequence) and any(isinstance(phase, Phase) for phase in phases):
        declared = [phase for phase in phases if isinstance(phase, Phase)]
        if len(declared) < len(phases):
            raise InputError("phases", "be all names or all Phase objects", "mix both")
        names = phase_names([phase.name for phase in declared])
        return names, np.array([phase.matrix for phase in declared])
    names = phase_names([str(phase) for phase in phases] if isinstance(phases, Sequence) else phases)
    return names, np.zeros(len(names), bool)


def _drawn(
    plain: PlainMap,
    matrix: npt.NDArray[np.bool_],
    smooth: float,
    max_overlap: int,
    draws: int,
    seed: int,
) -> tuple[FloatArray, bool]:
    """Posterior draws of the endmembers (draw, phase, bin), and whether the abundance grid had to be coarse."""
    from bayesunmix.fit.free_posterior import fit_free

    totals = np.zeros(plain.shape, np.int64)
    totals[plain.used] = plain.counts.sum(axis=1, dtype=np.int64)
    side = pixel_bins(totals, COUNTS_PER_BLOCK, mask=~plain.used, min_blocks=FEWEST_BLOCKS)
    blocks = plain.blocks(side).astype(np.float32)
    position = np.arange(blocks.shape[1], dtype=float)
    fitted = fit_free(
        blocks[blocks.any(axis=1)], matrix, position, smooth, max_overlap=max_overlap, seed=seed
    )
    return fitted.spectra(fitted.draw(1, draws, seed))[0], fitted.coarse_grid


def _endmembers(plain: PlainMap, spectra: FloatArray, level: float, names: tuple[str, ...]) -> xr.Dataset:
    """Mean and interval of the endmembers on the map's channels."""
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    lower, upper = np.quantile(spectra, tails, axis=0)
    values = {"mean": spectra.mean(axis=0), "lower": lower, "upper": upper}
    return xr.Dataset(
        {name: (("phase", "energy"), plain.on_channels(value)) for name, value in values.items()},
        coords={"phase": list(names), "energy": plain.energy},
    )


def _notes(
    names: tuple[str, ...],
    room: FloatArray,
    pure: npt.NDArray[np.floating],
    matrix: npt.NDArray[np.bool_],
    coarse: bool,
) -> tuple[str, ...]:
    """Sentences on what is not identifiable."""
    notes = open_rotations(names, room)
    for name, number, declared in zip(names, pure, matrix, strict=True):
        if declared and number < FEWEST_PURE:
            notes.append(
                f"{name} was declared to have pure pixels, but none was found: leave the declaration out, or check its "
                "spectrum."
            )
    if coarse:
        notes.append(
            "Pixels hold more counts than the grid of abundances resolves: intervals of endmembers may be too narrow."
        )
    return tuple(notes)


def open_rotations(names: Sequence[str], room: FloatArray) -> list[str]:
    """Sentences on the phases that counts alone leave open."""
    notes = []
    for name, hidden in zip(names, room, strict=True):
        other = int(hidden.argmax())
        if hidden[other] > NOTABLE_ROOM:
            notes.append(
                f"The spectrum of {name} is identifiable only where pixels of it are pure: without them up to "
                f"{100 * hidden[other]:.0f} % of it may be {names[other]} without any change in the fit. The intervals "
                "hold for the solution shown."
            )
    return notes
