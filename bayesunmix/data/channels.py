"""Channels that did not count as the others did: dead ones, and ones that hold far more than the detector can resolve.

A dead channel looks like energies that the sample does not emit, a stuck or saturated one like a line. No peak is
narrower than the detector's resolution: of a normal peak two channels away from its middle are exp(-2 / s^2) of its
height left, s its standard deviation in channels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bayesunmix.core.severity import Distrust, join
from bayesunmix.xray.response import FWHM2_PER_VARIANCE

FloatArray = npt.NDArray[np.float64]

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
# Peaks narrower than this, in channels, cannot be told from one.
NARROWEST = 2.0
MOST_NAMED = 5


def channel_doubts(counts: FloatArray, edges_keV: FloatArray, fwhm_keV: FloatArray) -> list[Distrust]:
    """Return a sentence each on dead and on stuck channels, where there are any.

    Parameters
    ----------
    counts : (channel,)
        Sum over the map.
    edges_keV : (channel + 1,)
    fwhm_keV : (channel,)
        The detector's resolution.
    """
    said, judged, scatter = [], edges_keV[:-1] > LOWEST_KEV, _scatter(counts)
    if gaps := _spans(_dead(counts, scatter) & judged, edges_keV):
        text = (
            f"No channel {gaps} has a count, although those beside them have many. Dead channels look like lines that "
            "the sample does not emit: compositions and shares of phases may be off by more than their intervals. Fit "
            "energies on one side of them (`map.energy_range`), or measure again."
        )
        said.append(Distrust(text))
    sigma = fwhm_keV / np.diff(edges_keV) / np.sqrt(FWHM2_PER_VARIANCE)
    if peaks := _spans(_stuck(counts, sigma, scatter) & judged, edges_keV):
        text = (
            f"Channels {peaks} hold far more counts than those beside them, a peak sharper than the detector can "
            "resolve. Such channels are stuck or saturated, and look like lines of elements that are not there. Fit "
            "energies on one side of them (`map.energy_range`), or repair them in the file."
        )
        said.append(Distrust(text))
    return said


def _dead(counts: FloatArray, scatter: float) -> npt.NDArray[np.bool_]:
    """Tell the channels without a count between others that have many, (channel,)."""
    label, number = ndimage.label(counts == 0)
    found = np.zeros(len(counts), bool)
    for (run,) in ndimage.find_objects(label, number):
        below, above = counts[max(run.start - BESIDE, 0) : run.start], counts[run.stop : run.stop + BESIDE]
        if len(below) and len(above) and min(below.mean(), above.mean()) > ALIVE * scatter:
            found[run] = True
    return found


def _stuck(counts: FloatArray, sigma: FloatArray, scatter: float) -> npt.NDArray[np.bool_]:
    """Tell the channels that exceed what is two channels away by more than a peak of width `sigma` can, (channel,)."""
    padded = np.pad(counts, 2, mode="edge")
    beside = np.maximum(padded[:-4], padded[4:])
    sharpest = TOO_SHARP * beside * np.exp(2.0 / np.maximum(sigma, NARROWEST) ** 2)
    return np.asarray((sigma > NARROWEST) & (counts - CLEAR * np.sqrt(scatter * counts) > sharpest))


def _scatter(counts: FloatArray) -> float:
    """Variance of neighbouring channels over that of counts, at least 1: squares of one degree of freedom."""
    total = counts[1:] + counts[:-1]
    some = total > 0
    squares = np.diff(counts)[some] ** 2 / total[some]
    return max(float(np.median(squares)) / 0.455, 1.0) if some.any() else 1.0


def _spans(chosen: npt.NDArray[np.bool_], edges_keV: FloatArray) -> str:
    """Name the energies of runs of channels."""
    runs = [run for (run,) in ndimage.find_objects(ndimage.label(chosen)[0])]
    named = [f"from {edges_keV[run.start]:.3f} to {edges_keV[run.stop]:.3f} keV" for run in runs]
    return join(
        named if len(named) <= MOST_NAMED else [*named[:MOST_NAMED], f"{len(named) - MOST_NAMED} more"]
    )
