"""Line families that lie off the energy axis and show only a flank on it.

Of a family of which next to nothing is emitted on the axis (`bayesunmix.forward.spectra.FEWEST_INSIDE`) there is no
telling how much there is, so that no composition can be read from it. Its flank is there all the same: the L lines of a
copper grid, at 0.93 keV, put thousands of counts on an axis that begins at 1 keV, and what does not model them gives
them to the tail of Mg K. The fit to the sum spectrum holds such families. Those whose flanks it shows go together into
one stray component of the model, in the proportions of that fit.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from bayesunmix.forward.spectra import FEWEST_INSIDE
from bayesunmix.xray import LineTable, Response

FloatArray = npt.NDArray[np.float64]

# A flank is taken where its counts stand out of the noise of all counts there by so much.
SHOWN_SIGMA = 3.0


def shown_flanks(
    counts: Mapping[str, float],
    observed: FloatArray,
    edges_keV: FloatArray,
    table: LineTable,
    response: Response,
) -> dict[tuple[str, str], float]:
    """Return the families off the axis whose flanks the sum spectrum shows, and their counts, seen and unseen.

    Parameters
    ----------
    counts
        Detected counts of each family in the fit to the sum spectrum, on the axis and off it, keyed ``Cu_L``.
    observed : (energy,)
        Counts of the sum spectrum.
    edges_keV : (energy + 1,)
    table, response
        As fitted.
    """
    found, ends = {}, (float(edges_keV[0]), float(edges_keV[-1]))
    for name, number in counts.items():
        # Elements that nobody declared have a component of their own.
        element, _, family = name.partition("_")
        if "+" in name or number <= 0.0 or family in table.families(element, *ends, FEWEST_INSIDE):
            continue
        lines = table.lines(element, family)
        strength = np.array([line.strength for line in lines])
        energy = np.array([line.energy_keV for line in lines])
        flank = number * response.spectrum(energy, strength / strength.sum(), edges_keV)
        if np.sqrt((flank**2 / np.maximum(observed, 1.0)).sum()) > SHOWN_SIGMA:
            found[element, family] = number
    return found
