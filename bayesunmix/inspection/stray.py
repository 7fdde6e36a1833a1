"""Which elements of a sum spectrum are the sample's, and which come from grid, holder, column, ion beam or detector.

No single sign decides, so log odds of stray to sample are added up:

* what the element can be: only those of `ORIGINS` are ever stray;
* height: its share of the atoms, C, N and O left out of the sum. What leaks in from elsewhere is weak, but for the
  metals of grids, which may be the strongest of all;
* the map: stray radiation does not follow the phases. Over blocks of pixels its counts are nearly even, or a constant
  and a part of the total, since it is the specimen that scatters; those of the sample's elements vary otherwise where
  there is more than one phase. A map that is even, or a single spectrum, says nothing;
* the families: a thick piece of metal absorbs its own L radiation, so L is weak beside K;
* who is named: those who list the elements of the sample do not list the grid.

The odds are judgements, not measurements; `DOUBT` is where the words say so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from bayesunmix.core.rounding import percent_text
from bayesunmix.data.image import SpectrumImage
from bayesunmix.inspection.peaks import Decomposition, LineGroup, SumSpectrum

FloatArray = npt.NDArray[np.float64]

# Where stray radiation of an element comes from; other elements are the sample's.
ORIGINS = {
    "C": "film or contamination",
    "O": "film or contamination",
    "Al": "holder",
    "Si": "detector or contamination",
    "Cl": "contamination",
    "Ar": "ion beam",
    "Cr": "column",
    "Fe": "column",
    "Ni": "grid",
    "Cu": "grid",
    "Ga": "ion beam",
    "Zr": "column",
    "Mo": "grid",
    "Ag": "column",
    "W": "ion-beam deposit",
    "Pt": "ion-beam deposit",
    "Au": "grid",
    "Pb": "column",
}
# Their stray radiation may be strong.
GRIDS = frozenset(("Cu", "Ni", "Mo", "Au"))
# Films and compounds hold much of them whatever else the sample is: they do not count in the height of the others.
LIGHT = frozenset(("C", "N", "O"))
# Shares up to which an element is weak, minor and major; above the last it is a main one.
HEIGHTS = {"grid": (0.03, 0.15, 0.35), "film": (0.03, 0.15, 0.60), "other": (0.03, 0.15, 0.60)}
MAIN = 0.60
# Log odds of stray to sample by height: weak, minor, major, main; of grids, films, and of the other origins.
BY_HEIGHT = {"grid": (2.0, 1.0, 1.0, -3.0), "film": (1.0, -1.0, -3.0, -4.0), "other": (1.5, -3.0, -5.0, -5.0)}
# Most grids are of copper.
OTHER_GRID = -1.0
# A film may be thicker than the sample: where the sample's elements are named, its height says nothing.
UNNAMED_FILM = -0.5
# In a scanning microscope there is neither grid nor column near the beam.
SCANNING = -3.0
NAMES_GIVEN = 2.0
FOLLOWS, EVEN = -3.0, 3.0
# Ratio of L to K relative to a thin film up to which these odds hold; between, it says nothing.
L_ODDS = ((0.1, 4.0), (0.3, 1.5), (0.6, 0.0), (np.inf, -0.5))
DOUBT = 2.0
# The map is read in at most so many blocks along each side; variations are told when they are larger than this.
BLOCK_SIDES, FEWEST_BLOCKS, LEAST_VARIATION = 16, 4, 0.15
# An element is even below this share of the variation of the most variable one.
EVEN_SHARE = 0.3
WINDOW_FWHM = 0.6
LEAST_PEAK_SHARE = 0.2


@dataclass(frozen=True)
class StrayEvidence:
    """What speaks for and against an element being stray.

    Parameters
    ----------
    element
    log_odds
        Of stray to sample.
    reason
        In words, without the element.
    varies
        Its counts vary over the map otherwise than the total counts, as those of a phase do.
    """

    element: str
    log_odds: float
    reason: str
    varies: bool = False

    @property
    def stray(self) -> bool:
        """Whether stray is the likelier."""
        return self.log_odds > 0.0

    @property
    def doubtful(self) -> bool:
        """Whether the other is nearly as likely."""
        return abs(self.log_odds) < DOUBT


def origins(
    image: SpectrumImage, spectrum: SumSpectrum, elements: Collection[str], named: Collection[str] = ()
) -> dict[str, StrayEvidence]:
    """Return what is known of the origin of each element that may be stray.

    Parameters
    ----------
    image
        The map, for the variation of the elements' counts.
    spectrum
        Its sum spectrum on the fitted axis.
    elements
        All elements that were named or found.
    named
        Those that the user or the file names: of the sample, whatever speaks against it.
    """
    shares = element_shares(spectrum, elements)
    variations = _variations(image, spectrum, elements)
    asked = [element for element in elements if element in ORIGINS and element not in named]
    scanning = image.acquisition.microscope == "SEM"
    return {
        element: _origin(
            element=element,
            shares=shares,
            variations=variations,
            soft_ratio=_soft_ratio(spectrum, elements, element),
            scanning=scanning,
            names_given=bool(named),
        )
        for element in asked
    }


def _origin(
    element: str,
    shares: dict[str, float],
    variations: dict[str, Variation],
    soft_ratio: float | None,
    scanning: bool,
    names_given: bool,
) -> StrayEvidence:
    height = shares.get(element, 0.0)
    kind = "grid" if element in GRIDS and not scanning else "film" if element in LIGHT else "other"
    odds = BY_HEIGHT[kind][int(np.searchsorted(HEIGHTS[kind], height))]
    odds += OTHER_GRID if kind == "grid" and element != "Cu" else 0.0
    beside = (
        " for one of the others" if element in LIGHT else " but C, N and O" if LIGHT & set(shares) else ""
    )
    reasons = [
        f"{percent_text(height)} % of the atoms{beside}"
        if element not in LIGHT
        else f"{height:.2g} atoms{beside}"
    ]
    if scanning:
        odds += SCANNING
        reasons.append("no grid or column near the beam in a scanning microscope")
    if names_given and (kind == "film" or height < MAIN):
        odds = NAMES_GIVEN + (max(odds, UNNAMED_FILM) if kind == "film" else odds)
        reasons.append("not among the elements that are named")
    change, words = _by_variation(element, variations)
    odds += change
    reasons += words
    if soft_ratio is not None and not scanning:
        odds += next(change for limit, change in L_ODDS if soft_ratio <= limit)
        if soft_ratio <= L_ODDS[1][0]:
            reasons.append(f"L lines {soft_ratio:.2g} of a thin film's beside K, as of a thick piece")
    return StrayEvidence(element, odds, "; ".join(reasons), change == FOLLOWS)


def _by_variation(element: str, variations: dict[str, Variation]) -> tuple[float, list[str]]:
    """Log odds and words from how the element's counts vary over the map beside the others'."""
    own = variations.get(element)
    others = [one.whole for name, one in variations.items() if name != element and name not in GRIDS]
    most = max(others, default=0.0)
    if own is None:
        return 0.0, []
    if most > LEAST_VARIATION and own.whole < EVEN_SHARE * most:
        return EVEN, [
            f"varies by {percent_text(own.whole)} % over the map where others vary by up to {percent_text(most)} %"
        ]
    if own.beyond_total > LEAST_VARIATION:
        return FOLLOWS, [
            f"varies by {percent_text(own.beyond_total)} % over the map otherwise than the total counts"
        ]
    return 0.0, []


def element_shares(spectrum: SumSpectrum, elements: Collection[str]) -> dict[str, float]:
    """Return rough atoms of each element from its family with the most counts, as a share of all but C, N and O.

    Absorption is left out.
    """
    atoms = rough_atoms(spectrum, spectrum.decompose(elements))
    total = sum(amount for element, amount in atoms.items() if element not in LIGHT) or sum(atoms.values())
    return {element: amount / total for element, amount in atoms.items()} if total > 0.0 else {}


def rough_atoms(spectrum: SumSpectrum, parts: Decomposition) -> dict[str, float]:
    """Return the atoms of each element: counts of its family with the most over those that an atom makes."""
    best: dict[str, tuple[float, float]] = {}
    for (element, family), counts in zip(parts.families, parts.line_counts.tolist(), strict=True):
        atoms = counts / spectrum.detected_strength(element, family)
        best[element] = max(best.get(element, (0.0, 0.0)), (counts, atoms))
    return {element: atoms for element, (_, atoms) in best.items()}


def _soft_ratio(spectrum: SumSpectrum, elements: Collection[str], element: str) -> float | None:
    """Return L counts over K counts relative to a thin film; None where either is not seen."""
    parts = spectrum.decompose(elements)
    counts = dict(zip(parts.families, parts.line_counts.tolist(), strict=True))
    pair = [(element, family) for family in ("L", "K")]
    if any(key not in counts for key in pair) or not counts[pair[1]] > 100.0:
        return None
    soft, hard = (counts[key] / spectrum.detected_strength(*key) for key in pair)
    return float(soft / hard)


@dataclass(frozen=True)
class Variation:
    """Relative standard deviation of an element's counts over blocks of pixels, counting noise taken off.

    Parameters
    ----------
    whole
        Of the counts.
    beyond_total
        Of what a constant and a part of all other counts leave.
    """

    whole: float
    beyond_total: float


def _variations(
    image: SpectrumImage, spectrum: SumSpectrum, elements: Collection[str]
) -> dict[str, Variation]:
    """How each element's counts vary over the map.

    Elements without a peak of their own, and those whose noise would hide `LEAST_VARIATION`, are left out.
    """
    parts = spectrum.decompose(elements)
    under = parts.continuum + parts.line_counts @ parts.line_columns
    total = _blocks(image, -np.inf, np.inf)
    result = {}
    for element in elements if total.size >= FEWEST_BLOCKS else ():
        group = _cleanest(spectrum, elements, element)
        if group is None:
            continue
        half = WINDOW_FWHM * spectrum.fwhm_keV(group.energy_keV)
        inside = np.abs(spectrum.centres_keV - group.energy_keV) <= half
        own = [key[0] == element for key in parts.families]
        lines = float((parts.line_counts[own] @ parts.line_columns[own])[inside].sum())
        share = min(lines / max(float(under[inside].sum()), 1.0), 1.0)
        counts = _blocks(image, group.energy_keV - half, group.energy_keV + half)
        # The error of an excess variance; what lies under the peak is taken to vary little.
        error = np.sqrt(np.sqrt(2.0 / counts.size) / max(float(counts.mean()), 1e-9))
        if share > LEAST_PEAK_SHARE and error < LEAST_VARIATION * share:
            left = counts - _affine(total - counts, counts)
            result[element] = Variation(*(_excess(values, counts) / share for values in (counts, left)))
    return result


def _affine(total: FloatArray, counts: FloatArray) -> FloatArray:
    """Return the constant and the part of `total` that fit the counts best, neither negative, (block,)."""
    design = np.stack([np.ones(total.size), total], axis=1)
    return np.asarray(design @ nnls(design, counts)[0])


def _excess(values: FloatArray, counts: FloatArray) -> float:
    """Return the standard deviation of values beyond the noise of the counts, over the mean count."""
    return float(np.sqrt(max(float(values.var()) - float(counts.mean()), 0.0)) / counts.mean())


def _cleanest(spectrum: SumSpectrum, elements: Collection[str], element: str) -> LineGroup | None:
    """Return the element's strongest line group that makes a peak, and makes most of it."""
    made = [group for group in spectrum.explained(elements).values() if group and group.element == element]
    return max(made, key=lambda group: group.strength, default=None)


def _blocks(image: SpectrumImage, low_keV: float, high_keV: float) -> FloatArray:
    """Return the counts between two energies in whole blocks of pixels, shape (block,)."""
    first, last = np.searchsorted(image.energy_keV, (low_keV, high_keV))
    picture = np.stack([row[:, first:last].sum(axis=1, dtype=np.int64) for row in image.rows()])
    rows, columns = (max(1, -(-size // BLOCK_SIDES)) for size in picture.shape)
    height, width = (picture.shape[0] // rows) * rows, (picture.shape[1] // columns) * columns

    def cut(pixels: npt.NDArray[np.generic]) -> FloatArray:
        parts = pixels[:height, :width].reshape(height // rows, rows, width // columns, columns)
        return np.asarray(parts.sum(axis=(1, 3), dtype=np.float64).ravel())

    masked = np.zeros(picture.shape, bool) if image.mask is None else image.mask
    return np.asarray(cut(picture)[cut(masked) == 0.0])
