"""Where the fit misses the counts: regions whose residuals, pooled at the detector's resolution, stand out.

Around every channel the observed counts O and the expected counts M of a window of one full width at half maximum are
compared by the signed root of the Poisson deviance,

    z = sign(O - M) sqrt( 2 (O log(O / M) - O + M) ),

which is close to a standard normal for a model that is right. Windows beyond `THRESHOLD` that touch make a region.

Looking everywhere makes accidents: windows that overlap are a Gaussian process whose correlation falls linearly to zero
over one width. Of k channels each, noise exceeds u in either direction in about

    sum_c 2 u phi(u) / k_c exp(-0.583 u sqrt(2 / k_c))

places, phi the normal density, the sum over all channels of all spectra (Pickands, J., Trans. Am. Math. Soc. 145 (1969)
51, doi:10.1090/S0002-9947-1969-0250367-X; the second factor is for looking at channels only: Siegmund, D., Sequential
Analysis, Springer 1985, doi:10.1007/978-1-4757-1862-1). At 4 sigma this is one region in about 2000 widths. A scan
states its own expectation, and each region the probability that noise has one like it anywhere. The sum spectrum was
fitted, which makes its residuals a little smaller than noise; those of the segments are held out.

What a region comes from is a proposal: among the lines, edges, tails, escape and pile-up peaks near it, and the lines
of elements that nobody declared, the one that is near enough and large enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xraylib
from scipy.optimize import brentq
from scipy.stats import norm

from bayesunmix.checks.goodness import Segments
from bayesunmix.checks.outcomes import ResidualRegion, ResidualScan
from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.fit.setup import Setup
from bayesunmix.inspection.peak_sources import presence_prior
from bayesunmix.inspection.peaks import siegbahn
from bayesunmix.xray import LineTable, atomic_number
from bayesunmix.xray.atomic import USUAL, lookup
from bayesunmix.xray.satellites import SILICON_K_ALPHA_KEV, escape_probability

FloatArray = npt.NDArray[np.float64]

THRESHOLD = 4.0
# Windows that expect fewer counts are not judged: the root of the deviance is no longer normal.
LEAST_EXPECTED = 10.0
# A global threshold is given for this probability of an accident.
ACCIDENT = 0.05
# A cause lies within about so much of a width of the largest residual.
AWAY_FWHM = 0.3
# What a cause can be wrong by, as a share of its counts: heights and shapes of lines, a step of the continuum at an
# edge, the tail below a line, and pile-up as a share of the weaker partner.
LINE_ERROR, EDGE_ERROR, TAIL_ERROR, PILE_UP_ERROR = 0.1, 0.05, 0.01, 0.003
# A tail that matters reaches from one width below its line to so many.
TAIL_REACH = 4.0
# How often each kind is the cause, roughly; undeclared elements have their own prior.
LINE, ESCAPE, PILE_UP, TAIL, EDGE = 1.0, 0.5, 0.5, 0.3, 0.3
WEAKEST_LINE = 0.01
STRONG_LINES = 8
# Lines with this share of an element's main family decide how much of it there is.
MAIN_LINE = 0.2
# Below this score (log) no cause is named.
LEAST_SCORE = -6.0


@dataclass(frozen=True, kw_only=True)
class SpectrumRegion:
    """A stretch of one spectrum where residuals of one sign exceed the threshold.

    Parameters
    ----------
    low_keV, high_keV
        Its windows' outer edges.
    energy_keV, sigma
        Centre of the window with the largest residual, and that residual with its sign.
    excess
        Observed less expected counts of that window.
    """

    low_keV: float
    high_keV: float
    energy_keV: float
    sigma: float
    excess: float


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that may be wrong near an energy, by about so many counts.

    Parameters
    ----------
    name
        In words.
    low_keV, high_keV
        Where; the same for a peak.
    counts
        How large an error it is good for in the whole map.
    prior
        How often it is the cause.
    """

    name: str
    low_keV: float
    high_keV: float
    counts: float
    prior: float


def pooled_residuals(
    observed: FloatArray, expected: FloatArray, edges_keV: FloatArray, fwhm_keV: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return residual z and excess counts of the window of one width around every channel, each (energy,).

    Parameters
    ----------
    observed, expected : (energy,)
        Counts of the channels.
    edges_keV : (energy + 1,)
        Edges of the channels, of even width.
    fwhm_keV : (energy,)
        Full width at half maximum of the detector at each channel.
    """
    half = _half(edges_keV, fwhm_keV)
    place = np.arange(observed.size)
    first, last = np.maximum(place - half, 0), np.minimum(place + half + 1, observed.size)
    o, m = (np.concatenate([[0.0], np.cumsum(values)]) for values in (observed, expected))
    o, m = o[last] - o[first], m[last] - m[first]
    enough = m >= LEAST_EXPECTED
    safe = np.where(enough, m, 1.0)
    deviance = 2.0 * (o * np.log(np.where(o > 0.0, o, safe) / safe) - o + safe)
    z = np.sign(o - safe) * np.sqrt(np.maximum(deviance, 0.0))
    return np.where(enough, z, 0.0), np.where(enough, o - m, 0.0)


def _half(edges_keV: FloatArray, fwhm_keV: FloatArray) -> npt.NDArray[np.int64]:
    """Channels on either side of a window's middle one, shape (energy,)."""
    return np.asarray(np.round(0.5 * fwhm_keV / np.diff(edges_keV) - 0.5), dtype=np.int64)


def find_regions(
    observed: FloatArray, expected: FloatArray, edges_keV: FloatArray, fwhm_keV: FloatArray
) -> list[SpectrumRegion]:
    """Return the regions beyond the threshold in order of energy; parameters as in `pooled_residuals`."""
    z, excess = pooled_residuals(observed, expected, edges_keV, fwhm_keV)
    centres = 0.5 * (edges_keV[1:] + edges_keV[:-1])
    regions: list[SpectrumRegion] = []
    for sign in (1.0, -1.0):
        beyond = np.flatnonzero(sign * z > THRESHOLD)
        # Windows that overlap tell of the same counts.
        apart = np.diff(centres[beyond]) > fwhm_keV[beyond][1:]
        for run in np.split(beyond, np.flatnonzero(apart) + 1) if beyond.size else []:
            top = int(run[np.argmax(sign * z[run])])
            low = max(float(centres[run[0]] - 0.5 * fwhm_keV[run[0]]), float(edges_keV[0]))
            high = min(float(centres[run[-1]] + 0.5 * fwhm_keV[run[-1]]), float(edges_keV[-1]))
            regions.append(
                SpectrumRegion(
                    low_keV=low,
                    high_keV=high,
                    energy_keV=float(centres[top]),
                    sigma=float(z[top]),
                    excess=float(excess[top]),
                )
            )
    return sorted(regions, key=lambda region: region.low_keV)


def expected_accidents(window_channels: FloatArray, sigma: float) -> float:
    """Return how many regions beyond `sigma` noise makes; the argument is the channels of each window looked at."""
    coarse = np.exp(-0.583 * sigma * np.sqrt(2.0 / window_channels))
    return float(2.0 * sigma * norm.pdf(sigma) * np.sum(coarse / window_channels))


def global_threshold(window_channels: FloatArray) -> float:
    """Return the residual that noise exceeds anywhere with a probability of 5 %."""
    return float(brentq(lambda u: expected_accidents(window_channels, u) + np.log1p(-ACCIDENT), 1.5, 20.0))


def residual_regions(setup: Setup, expected: FloatArray, segments: Segments) -> ResidualScan:
    """Scan the sum spectrum and the held-out spectrum of every segment.

    Parameters
    ----------
    setup : Setup
    expected : (energy,)
        Expected counts of the sum spectrum.
    segments : Segments

    """
    edges = setup.image.channel_edges_keV
    fwhm = np.asarray(setup.forward.response.fwhm_keV(setup.image.energy_keV))
    observed = setup.fitted_spectrum.astype(np.float64)
    spectra = [(WHOLE_MAP, observed, expected)]
    spectra += [
        (phase.name, segments.observed[k], segments.expected[k])
        for k, phase in enumerate(setup.phases)
        if segments.expected[k].sum() > 0.0
    ]
    windows = np.tile(2.0 * _half(edges, fwhm) + 1.0, len(spectra))
    known, main = causes(setup), strongest_lines(setup)
    rows = []
    for name, counts, mean in spectra:
        share = float(mean.sum() / max(observed.sum(), 1.0))
        for region in find_regions(counts, mean, edges, fwhm):
            width = float(np.interp(region.energy_keV, setup.image.energy_keV, fwhm))
            rows.append(
                ResidualRegion(
                    spectrum=name,
                    low_keV=region.low_keV,
                    high_keV=region.high_keV,
                    energy_keV=region.energy_keV,
                    sigma=region.sigma,
                    excess_counts=region.excess,
                    cause=likeliest(region, known, width, share),
                    elements=tuple(_touched(region, main, width)),
                    chance=float(-np.expm1(-expected_accidents(windows, abs(region.sigma)))),
                )
            )
    return ResidualScan(
        threshold_sigma=THRESHOLD,
        widths=float(np.sum(1.0 / windows)),
        regions_expected_of_noise=expected_accidents(windows, THRESHOLD),
        global_threshold_sigma=global_threshold(windows),
        regions=tuple(rows),
    )


def strongest_lines(setup: Setup) -> list[tuple[str, float]]:
    """Return the sample's elements with the energies, on the axis, of the strong lines of their main families."""
    forward = setup.forward
    found = []
    for family in forward.families:
        if family.main and not family.stray and family.element in forward.elements:
            lines = forward.table.lines(family.element, family.family)
            energy = np.array([line.energy_keV for line in lines])
            detected = np.array([line.strength for line in lines]) * forward.detector.efficiency(energy)
            strong = energy[detected >= MAIN_LINE * detected.sum()]
            found += [(family.element, float(at)) for at in forward.response.apparent_keV(strong)]
    return found


def _touched(region: SpectrumRegion, main: Sequence[tuple[str, float]], fwhm_keV: float) -> list[str]:
    """Elements with a main line within half a width of a region: the counts there are partly its own."""
    low, high = region.low_keV - 0.5 * fwhm_keV, region.high_keV + 0.5 * fwhm_keV
    return list(dict.fromkeys(element for element, at in main if low < at < high))


def likeliest(region: SpectrumRegion, known: Sequence[Cause], fwhm_keV: float, share: float = 1.0) -> str:
    """Name the cause that is nearest and large enough.

    Parameters
    ----------
    region
        The region.
    known
        Causes, with their counts in the whole map.
    fwhm_keV
        Detector's width there.
    share
        Share of the map's counts in the spectrum of the region.
    """

    def score(cause: Cause) -> float:
        away = max(cause.low_keV - region.energy_keV, region.energy_keV - cause.high_keV, 0.0)
        enough = min(1.0, share * cause.counts / max(abs(region.excess), 1e-9))
        # What may lie anywhere in a range is less likely to lie just here.
        spread = 1.0 + (cause.high_keV - cause.low_keV) / fwhm_keV
        return float(
            np.log(cause.prior / spread)
            + np.log(max(enough, 1e-12))
            - 0.5 * (away / (AWAY_FWHM * fwhm_keV)) ** 2
        )

    # An element that was not fitted leaves counts over, it takes none away.
    possible = [cause for cause in known if region.excess > 0.0 or not cause.name.startswith("undeclared")]
    best = max(possible, key=score, default=None)
    return best.name if best is not None and score(best) > LEAST_SCORE else "continuum, or unknown"


def causes(setup: Setup) -> list[Cause]:
    """Collect what may be wrong: lines, their tails, escape and pile-up, edges, and undeclared elements."""
    low, high = (float(setup.image.channel_edges_keV[i]) for i in (0, -1))
    lines = _lines(setup)
    found = [
        Cause(name=f"line {name}", low_keV=energy, high_keV=energy, counts=LINE_ERROR * n, prior=LINE)
        for name, energy, n in lines
    ]
    strong = sorted(lines, key=lambda line: -line[2])[:STRONG_LINES]
    for name, energy, n in strong:
        width = float(setup.forward.response.fwhm_keV(energy))
        found.append(
            Cause(
                name=f"tail of {name}",
                low_keV=energy - TAIL_REACH * width,
                high_keV=energy - width,
                counts=TAIL_ERROR * n,
                prior=TAIL,
            )
        )
        escaping = n * float(escape_probability(np.array([energy]))[0])
        left = energy - SILICON_K_ALPHA_KEV
        found.append(
            Cause(name=f"escape peak of {name}", low_keV=left, high_keV=left, counts=escaping, prior=ESCAPE)
        )
    for index, (name, energy, n) in enumerate(strong):
        for other, at, m in strong[index:]:
            first, second = (name, other) if energy <= at else (other, name)
            both = f"pile-up of {first} and {second}"
            found.append(
                Cause(
                    name=both,
                    low_keV=energy + at,
                    high_keV=energy + at,
                    counts=PILE_UP_ERROR * min(n, m),
                    prior=PILE_UP,
                )
            )
    found += _edges(setup)
    found += _undeclared(setup, {line[0].split()[0] for line in lines})
    return [cause for cause in found if cause.counts > 0.0 and cause.high_keV > low and cause.low_keV < high]


def _lines(setup: Setup) -> list[tuple[str, float, float]]:
    """Name, energy on the axis and counts of every fitted line with a share of its family."""
    table, forward = setup.forward.table, setup.forward
    lines: dict[str, tuple[float, float]] = {}
    for key, counts in setup.spectrum.counts.items():
        members = [table_line for name in key.split("+") for table_line in table.lines(*name.split("_"))]
        energy = np.array([line.energy_keV for line in members])
        detected = np.array([line.strength for line in members]) * forward.detector.efficiency(energy)
        for line, share in zip(members, detected / detected.sum(), strict=True):
            if share >= WEAKEST_LINE and counts > 0.0:
                name = f"{line.element} {siegbahn(line.line)}"
                before, held = lines.get(name, (0.0, 0.0))
                n = share * counts
                lines[name] = ((before * held + line.energy_keV * n) / (held + n), held + n)
    apparent = forward.response.apparent_keV
    return [(name, float(apparent(energy)), n) for name, (energy, n) in lines.items()]


def _edges(setup: Setup) -> list[Cause]:
    """Absorption edges of the sample's elements and of the detector, where the continuum has a step."""
    counts = setup.image.sum_spectrum().astype(np.float64)
    found = []
    for element in dict.fromkeys((*setup.forward.elements, "Si", "Al")):
        number = atomic_number(element)
        for shell, name in ((xraylib.K_SHELL, "K"), (xraylib.L3_SHELL, "L3"), (xraylib.M5_SHELL, "M5")):
            energy = float(lookup(xraylib.EdgeEnergy, number, shell))
            width = float(setup.forward.response.fwhm_keV(energy))
            near = np.abs(setup.image.energy_keV - energy) < 2.0 * width
            if near.any():
                # The lowest counts around are the continuum's.
                level = float(counts[near].min()) * width / setup.image.energy_step_keV
                found.append(
                    Cause(
                        name=f"absorption edge {element} {name}",
                        low_keV=energy,
                        high_keV=energy,
                        counts=EDGE_ERROR * level,
                        prior=EDGE,
                    )
                )
    return found


def _undeclared(setup: Setup, fitted: set[str]) -> list[Cause]:
    """Strong lines of the usual elements that were not fitted; they may have any number of counts."""
    others = [element for element in sorted(USUAL) if element not in fitted]
    table = LineTable.built_in(setup.forward.beam_energy_keV, others)
    efficiency = setup.forward.detector.efficiency
    found = []
    for element in others:
        for family in table.families(element):
            lines = table.lines(element, family)
            energy = np.array([line.energy_keV for line in lines])
            detected = np.array([line.strength for line in lines]) * efficiency(energy)
            best = int(detected.argmax())
            at = float(setup.forward.response.apparent_keV(energy[best]))
            name = f"undeclared element {element} ({siegbahn(lines[best].line)})"
            found.append(
                Cause(name=name, low_keV=at, high_keV=at, counts=np.inf, prior=presence_prior(element))
            )
    return found
