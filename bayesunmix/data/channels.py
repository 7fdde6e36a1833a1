"""Channels that did not count as the others did: dead ones, and ones that hold far more than the detector can resolve.

A dead channel looks like energies that the sample does not emit, a stuck or saturated one like a line. No peak is
narrower than the detector's resolution: of a normal peak two channels away from its middle exp(-2 / s^2) of its height
are left, s its standard deviation in channels. Where a few stand side by side, fewer than a peak is wide, those
beside them say what they would hold, and are fitted in their place: a line loses little by it, and a peak that is none,
or a hole, would bend everything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bayesunmix.core.severity import Distrust, Doubt, Reservation, join
from bayesunmix.data.image import SpectrumImage
from bayesunmix.xray.response import FWHM2_PER_VARIANCE

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# Counts of the channels on either side of one that is dead: none at all would be one in e^40. Numbers that scatter more
# than counts, as sums of copies do, are that many counts each.
ALIVE = 40.0
# Channels on either side of dead ones that say what they would hold.
BESIDE = 5
# A stuck channel exceeds the sharpest peak by this factor, and by so many standard deviations: where an axis was
# resampled, single channels are twice as high as the others.
TOO_SHARP, CLEAR = 3.0, 8.0
# Below, at the peak of the electronics' zero and at thresholds, channels of sound detectors do the same.
LOWEST_KEV = 0.2
# Channels are replaced over up to this part of a peak's full width at half its height, that of an energy bin.
BRIDGED_FWHM = 1.0 / 3.0
# Stuck channels side by side, at most.
MOST_STUCK = 8
# Peaks narrower than this, in channels, cannot be told from one.
NARROWEST = 2.0
MOST_NAMED = 5
DEAD = (
    "There are no counts {}, although there are many beside. Dead channels look like lines that the sample does not "
    "emit"
)
STUCK = (
    "There are far more counts {} than beside, a peak sharper than the detector can resolve. Channels there are stuck "
    "or saturated, and look like lines of elements that are not there"
)


@dataclass(frozen=True)
class OddChannels:
    """Channels that did not count as the others did.

    Attributes
    ----------
    dead, stuck : (channel,) bool
    replaced : tuple of (int, int)
        Channels that are few enough side by side, each with the one whose counts are fitted in their place.
    edges_keV : (channel + 1,)
    """

    dead: Mask
    stuck: Mask
    replaced: tuple[tuple[int, int], ...]
    edges_keV: FloatArray

    @classmethod
    def of(cls, counts: FloatArray, edges_keV: FloatArray, fwhm_keV: FloatArray) -> OddChannels:
        """Find them in the sum over a map.

        Parameters
        ----------
        counts : (channel,)
        edges_keV : (channel + 1,)
        fwhm_keV : (channel,)
            The detector's resolution.
        """
        judged, scatter = edges_keV[:-1] > LOWEST_KEV, _scatter(counts)
        widths = fwhm_keV / np.diff(edges_keV)
        dead = _dead(counts, scatter) & judged
        stuck = _stuck(counts, widths / np.sqrt(FWHM2_PER_VARIANCE), scatter) & judged
        return cls(dead, stuck, _beside(dead | stuck, widths), edges_keV)

    @classmethod
    def of_map(cls, image: SpectrumImage, fwhm_keV: Callable[[FloatArray], FloatArray]) -> OddChannels:
        """Find them in a map by the detector's resolution at energies in keV."""
        counts = image.sum_spectrum().astype(np.float64)
        return cls.of(counts, image.channel_edges_keV, fwhm_keV(image.energy_keV))

    def doubts(self, first: int = 0, last: int | None = None) -> list[Doubt]:
        """Return what is to be said of those from a first channel to before the last, and of what was done about it."""
        chosen = np.zeros(len(self.dead), bool)
        chosen[first:last] = True
        return [
            *self._said(self.dead & chosen, DEAD, "measure again"),
            *self._said(self.stuck & chosen, STUCK, "repair them in the file"),
        ]

    def _said(self, odd: Mask, what: str, remedy: str) -> list[Doubt]:
        """Say what some channels are, those that were replaced and those that were not."""
        bridged = np.zeros(len(odd), bool)
        bridged[[channel for channel, _ in self.replaced]] = True
        said: list[Doubt] = []
        if spans := _spans(odd & bridged, self.edges_keV):
            text = (
                f"{what.format(spans)}. The counts of the channels beside them were fitted in their place; if a line "
                "that matters lies there, measure again."
            )
            said.append(Reservation(text))
        if spans := _spans(odd & ~bridged, self.edges_keV):
            text = (
                f"{what.format(spans)}, and they are too many to be replaced: compositions and shares of phases may be "
                f"off by more than their intervals. Fit energies on one side of them (`map.energy_range`), or {remedy}."
            )
            said.append(Distrust(text))
        return said


def _beside(odd: Mask, widths: FloatArray) -> tuple[tuple[int, int], ...]:
    """Pair odd channels that are few enough side by side with the nearest sound one, those in the middle upwards."""
    pairs = []
    for (run,) in ndimage.find_objects(ndimage.label(odd)[0]):
        count = run.stop - run.start
        if run.start == 0 or run.stop == len(odd) or count > max(round(BRIDGED_FWHM * widths[run.start]), 1):
            continue
        half = run.start + count // 2
        pairs += [
            (channel, run.start - 1 if channel < half else run.stop) for channel in range(run.start, run.stop)
        ]
    return tuple(pairs)


def _dead(counts: FloatArray, scatter: float) -> Mask:
    """Tell the channels without a count between others that have many, (channel,)."""
    label, number = ndimage.label(counts == 0)
    found = np.zeros(len(counts), bool)
    for (run,) in ndimage.find_objects(label, number):
        below, above = counts[max(run.start - BESIDE, 0) : run.start], counts[run.stop : run.stop + BESIDE]
        if len(below) and len(above) and min(below.mean(), above.mean()) > ALIVE * scatter:
            found[run] = True
    return found


def _stuck(counts: FloatArray, sigma: FloatArray, scatter: float) -> Mask:
    """Tell the channels of runs that exceed what is two channels beside them by more than a peak of width `sigma` can.

    Of a peak in the middle of a run of n channels, exp(-(n + 1) / s^2) is left there of what its outermost ones hold.
    """
    found = np.zeros(len(counts), bool)
    spread = np.maximum(sigma, NARROWEST) ** 2
    padded = np.pad(counts, 2, mode="edge")
    for wide in range(1, min(MOST_STUCK, len(counts)) + 1):
        runs = np.lib.stride_tricks.sliding_window_view(counts, wide)
        least, first = runs.min(axis=1), np.arange(len(runs))
        beside = np.maximum(padded[first], padded[first + wide + 3])
        sharpest = TOO_SHARP * beside * np.exp((wide + 1.0) / spread[first])
        for begin in np.flatnonzero(
            (sigma[first] > NARROWEST) & (least - CLEAR * np.sqrt(scatter * least) > sharpest)
        ):
            found[begin : begin + wide] = True
    return found


def _scatter(counts: FloatArray) -> float:
    """Variance of neighbouring channels over that of counts, at least 1: squares of one degree of freedom."""
    total = counts[1:] + counts[:-1]
    some = total > 0
    squares = np.diff(counts)[some] ** 2 / total[some]
    return max(float(np.median(squares)) / 0.455, 1.0) if some.any() else 1.0


def _spans(chosen: Mask, edges_keV: FloatArray) -> str:
    """Name the energies of runs of channels."""
    runs = [run for (run,) in ndimage.find_objects(ndimage.label(chosen)[0])]
    named = [f"from {edges_keV[run.start]:.3f} to {edges_keV[run.stop]:.3f} keV" for run in runs]
    return join(
        named if len(named) <= MOST_NAMED else [*named[:MOST_NAMED], f"{len(named) - MOST_NAMED} more"]
    )
