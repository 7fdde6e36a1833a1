"""Who made a peak: the posterior over elements, pile-up, escape peaks and none of these.

Hypothesis h says that source h makes most of peak P. A source has features, places where it shows with known relative
heights: the line groups of an element; the sums of two strong peaks for pile-up; strong peaks less the energy of
Si K-alpha for escape. With its amount a, the height b_j above everything else that is known at feature j has

    L_j(a) = (1 - q) N(b_j; a r_j, s_j^2 + (t a r_j)^2) + q X(b_j - a r_j),

r_j its relative height there, s_j the counting error with a share of what was subtracted, t the tolerance of ratios
inside a family, and X the density of something unknown beside it (positive, uniform in its logarithm, probability q).
K, L and M families of an element share the amount up to a factor with a log-normal prior. Relative to "not there",
R_j(a) = L_j(a) / L_j(0): a line that should be seen and is missing speaks against the element, one that is there for
it. Then, with b and E the height and energy of P,

    p(h | data)  proportional to  N(E; E_h, s_E^2)  n_h / d_h,
    n_h = p_h int p(a) N(log b; log a r_P) prod_j R_j(a) da,
    d_h = (1 - p_h) + p_h int_{a r_P < b / 2} p(a) prod_j R_j(a) da,

p_h the prior probability that the source is in the map at all, p(a) uniform in log a. n_h is the case that h makes the
peak, d_h the case that it is absent or makes less than half of it. What is none of these has the rate
`UNKNOWN_PER_MAP` of peaks anywhere on the axis. Priors are in `presence_prior`. With the probability `MISREAD` the
heights elsewhere are not heard, and position and prior alone decide: no reading of a whole spectrum is surer than that.

The hypotheses exclude each other: a peak to which two elements contribute alike is shared between them as doubt.
`benchmarks/peak_candidates.py` measures how far the probabilities can be taken at their word.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import log_ndtr

from bayesunmix.inspection.peaks import LineGroup, Peak, SumSpectrum
from bayesunmix.xray.atomic import USUAL
from bayesunmix.xray.response import FWHM2_PER_VARIANCE
from bayesunmix.xray.satellites import SILICON_K_ALPHA_KEV, SILICON_K_EDGE_KEV, escape_probability

FloatArray = npt.NDArray[np.float64]

# Elements of grids, holders, columns and ion beams, and the light ones of contamination, whatever the sample is.
USUAL_STRAY = frozenset("C O Al Si Cl Ar Cr Fe Ni Cu Ga Zr Mo Ag W Pt Au Pb".split())
# What a sample all but never holds.
RARE = frozenset("He Ne Kr Xe Rn Be Tc Pm Po At Fr Ra Ac Pa Np Pu Am".split())
# Prior probability of being in a map, with lines that show.
NAMED, STRAY, MINERAL, OTHER, SELDOM = 0.95, 0.10, 0.05, 0.02, 0.001
PILE_UP_PRESENT, ESCAPE_PRESENT = 0.5, 0.9
# Expected number of peaks of a map that are neither.
UNKNOWN_PER_MAP = 0.1
# Probability that something unknown stands at a given place.
BESIDE = 0.1
# Tolerance of ratios inside a family: prior errors of the tables, and absorption in thick parts.
RATIO_SD = 0.25
# ... and between families of an element; more where one lies below 1 keV, where windows and specimens absorb.
FAMILY_SD, SOFT_FAMILY_SD, SOFT_KEV = 0.6, 1.2, 1.0
# Relative errors of what is subtracted: lines of known elements and their tails, and the continuum.
SUBTRACTED_SD, CONTINUUM_SD = 0.05, 0.01
# Errors of a position: tables and bonding; what is left of the axis; the shape of a peak that is not quite one line,
# in widths, and with a small probability a peak that is two.
LINE_KEV, AXIS_KEV, SHAPE_FWHM = 0.002, 0.003, 0.02
BLEND, BLEND_FWHM = 0.15, 0.25
# Logarithm of a source's share in such a peak.
SHARED = (float(np.log(0.4)), float(np.log(1.5)))
# Features closer than this to a peak are part of it.
WITHIN_FWHM = 0.6
# A single feature can speak against a source by so much: no model of a spectrum is sure beyond this.
MOST_AGAINST = 12.0
# Probability that the heights of the other features mislead as a whole; then position and prior alone decide.
MISREAD = 0.05
# The error of a height grows with the misfit within so many widths; one place alone counts at most so much.
MISFIT_FWHM, MOST_MISFIT = 3.0, 100.0
# Amounts, in counts of the strongest feature.
AMOUNT_STEP = 0.1
# Pile-up is looked for among this many of the strongest peaks and makes at most this share of them.
PILE_UP_PEAKS, LEAST_PILE_UP, MOST_PILE_UP = 6, 1e-5, 0.05
# Escape peaks are this far from theory (log), and those of this many peaks matter.
ESCAPE_SD, ESCAPE_PEAKS = 0.5, 6
# A guess is revised at most so often: what looked likely first may not be once the others are known.
MOST_ROUNDS = 3


def presence_prior(element: str, named: Collection[str] = ()) -> float:
    """Prior probability that an element's lines show in a map.

    0.95 for elements that the user or the file names, 0.10 for those of grids, holders, columns, ion beams and
    contamination, 0.05 for the other ones that microscopists meet, 0.001 for noble gases but argon and elements without
    stable isotopes but Th and U, and 0.02 for all others.
    """
    if element in named:
        return NAMED
    if element in USUAL_STRAY:
        return STRAY
    if element in USUAL:
        return MINERAL
    return SELDOM if element in RARE else OTHER


@dataclass(frozen=True)
class SourceCandidate:
    """One possible source of a peak.

    Parameters
    ----------
    name
        Element, ``pile-up``, ``escape`` or ``unknown``.
    label
        In words: ``Fe Kα``, ``sum of Si Kα and Mg Kα (pile-up)``.
    probability
        Posterior probability that it makes most of the peak.
    """

    name: str
    label: str
    probability: float

    @property
    def is_element(self) -> bool:
        """Whether it is an element."""
        return self.name not in ("pile-up", "escape", "unknown")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A source with its features.

    Parameters
    ----------
    energy_keV, height : (feature,)
        Where it shows, and how high relative to its highest feature.
    family : (feature,)
        Features of one family share their factor.
    log_amount
        Prior of the log amount: density on the grid, shape (amount,), adding up to 1 over the grid.
    """

    name: str
    labels: tuple[str, ...]
    energy_keV: FloatArray
    height: FloatArray
    family: tuple[str, ...]
    present: float
    log_amount: FloatArray
    rows: npt.NDArray[np.intp] = field(repr=False)


@dataclass(frozen=True)
class _Readings:
    """The spectrum at every feature, arrays of shape (feature,).

    Parameters
    ----------
    heights
        Counts above continuum, named elements and peaks elsewhere.
    others
        What other elements, found but not named, would make of it.
    errors
        Standard errors.
    own
        What each named element makes itself.
    """

    heights: FloatArray
    others: FloatArray
    errors: FloatArray
    own: dict[str, FloatArray]


@dataclass(frozen=True)
class PeakSources:
    """The posterior over sources for the peaks of a sum spectrum.

    Parameters
    ----------
    spectrum
        The spectrum with its peaks.
    named
        Elements that the user or the file names.
    """

    spectrum: SumSpectrum
    named: tuple[str, ...] = ()

    def candidates(self, peak: Peak, known: Collection[str] = ()) -> list[SourceCandidate]:
        """Return the possible sources of a peak, likeliest first, with probabilities that add up to 1.

        Parameters
        ----------
        peak
            One of the spectrum's peaks.
        known
            Elements that probably made other peaks: what they would make elsewhere may be theirs or another's.
            Those that could make this peak are not heard.
        """
        near = [source for source in self._sources if self._here(source, peak).any()]
        beside = frozenset(known) - {source.name for source in near} - set(self.named)
        read = self._readings(beside)
        weights = np.array(
            [self._log_weights(source, peak, read) for source in near] + [(self._log_unknown,) * 2]
        )
        by_heights, by_position = np.exp(weights - weights.max(axis=0)).T
        shares = (1.0 - MISREAD) * by_heights / by_heights.sum() + MISREAD * by_position / by_position.sum()
        result = [
            SourceCandidate(source.name, self._label(source, peak), float(share))
            for source, share in zip(near, shares[:-1], strict=True)
        ]
        result.append(SourceCandidate("unknown", "none of these", float(shares[-1])))
        return sorted(result, key=lambda candidate: -candidate.probability)

    def guess(self, known: Sequence[str] = ()) -> tuple[str, ...]:
        """Return `known` and the elements that most probably made the remaining peaks, the strongest peak first."""
        chosen = tuple(known)
        for _ in range(MOST_ROUNDS):
            revised = self._revised(known, self._added(chosen))
            if revised == chosen:
                break
            chosen = revised
        return chosen

    def _added(self, known: tuple[str, ...]) -> tuple[str, ...]:
        """Go through the peaks that `known` does not explain, the strongest first."""
        chosen = known
        done: set[Peak] = set()
        while True:
            made_by = self.spectrum.explained(chosen)
            left = [peak for peak in self.spectrum.peaks if made_by[peak] is None and peak not in done]
            if not left:
                return chosen
            strongest = max(left, key=lambda peak: peak.significance)
            done.add(strongest)
            best = self.candidates(strongest, chosen)[0]
            if best.is_element and best.name not in chosen:
                chosen = (*chosen, best.name)

    def _revised(self, known: Sequence[str], chosen: Sequence[str]) -> tuple[str, ...]:
        """Return `known` and those elements that are still the likeliest source of a peak, given all others."""
        best = [self.candidates(peak, chosen)[0].name for peak in self._strong]
        return (*known, *(name for name in dict.fromkeys(best) if name in chosen and name not in known))

    @cached_property
    def _grid(self) -> FloatArray:
        """Log amounts."""
        most = max(peak.net_counts for peak in self.spectrum.peaks)
        return np.arange(0.0, np.log(30.0 * most), AMOUNT_STEP)

    @cached_property
    def _sources(self) -> tuple[_Source, ...]:
        by_element: dict[str, list[int]] = {}
        groups = self.spectrum.groups
        for place, group in enumerate(groups):
            by_element.setdefault(group.element, []).append(place)
        flat = np.full(self._grid.size, 1.0 / self._grid.size)
        sources = []
        count = 0
        for element, places in by_element.items():
            strength = np.array([groups[place].strength for place in places])
            sources.append(
                _Source(
                    name=element,
                    labels=tuple(groups[place].label for place in places),
                    energy_keV=np.array([groups[place].energy_keV for place in places]),
                    height=strength / strength.max(),
                    family=tuple(groups[place].family for place in places),
                    present=presence_prior(element, self.named),
                    log_amount=flat,
                    rows=np.arange(count, count + len(places)),
                )
            )
            count += len(places)
        for artefact in (self._pile_up(count), self._escape(count + len(self._pairs))):
            if artefact is not None:
                sources.append(artefact)
        return tuple(sources)

    @cached_property
    def _strong(self) -> list[Peak]:
        return sorted(self.spectrum.peaks, key=lambda peak: -peak.net_counts)

    def _name(self, peak: Peak) -> str:
        """Name of a strong peak: the line of a named element that makes it, or else its energy."""
        group = self._made_by_named[peak]
        return f"{peak.energy_keV:.3f} keV" if group is None else group.label

    @cached_property
    def _made_by_named(self) -> dict[Peak, LineGroup | None]:
        return self.spectrum.explained(self.named)

    @cached_property
    def _pairs(self) -> list[tuple[Peak, Peak]]:
        """Pairs of strong peaks whose sum lies on the axis."""
        strong = self._strong[:PILE_UP_PEAKS]
        end = self.spectrum.edges_keV[-1]
        pairs = [(a, b) for a in strong for b in strong if a.energy_keV <= b.energy_keV]
        return [pair for pair in pairs if pair[0].energy_keV + pair[1].energy_keV < end]

    def _pile_up(self, first_row: int) -> _Source | None:
        """Pairs of photons of strong peaks counted as one: n1 n2 of either order, n1^2 / 2 of one peak."""
        if not self._pairs:
            return None
        product = np.array([a.net_counts * b.net_counts * (0.5 if a is b else 1.0) for a, b in self._pairs])
        best = self._pairs[int(product.argmax())]
        parent = np.log(min(best[0].net_counts, best[1].net_counts))
        inside = (self._grid > parent + np.log(LEAST_PILE_UP)) & (self._grid < parent + np.log(MOST_PILE_UP))
        inside[0] |= not inside.any()
        # Soft photons slip under the threshold of the pile-up rejector: their rate is another one.
        family = [
            f"soft {min(a.energy_keV, b.energy_keV):.2f}" if a.energy_keV < SOFT_KEV else ""
            for a, b in self._pairs
        ]
        return _Source(
            name="pile-up",
            labels=tuple(f"sum of {self._name(a)} and {self._name(b)} (pile-up)" for a, b in self._pairs),
            energy_keV=np.array([a.energy_keV + b.energy_keV for a, b in self._pairs]),
            height=product / product.max(),
            family=tuple(family),
            present=PILE_UP_PRESENT,
            log_amount=inside / inside.sum(),
            rows=np.arange(first_row, first_row + len(self._pairs)),
        )

    def _escape(self, first_row: int) -> _Source | None:
        """Silicon escape peaks of the strong peaks above the K edge, near their theoretical share."""
        parents = [peak for peak in self._strong if peak.energy_keV > SILICON_K_EDGE_KEV][:ESCAPE_PEAKS]
        if not parents:
            return None
        energy = np.array([peak.energy_keV for peak in parents])
        counts = np.array([peak.net_counts for peak in parents]) * escape_probability(energy)
        density = np.exp(-0.5 * ((self._grid - np.log(counts.max())) / ESCAPE_SD) ** 2)
        # Where theory expects less than a count the lowest amount stands for it.
        density[0] += 1e-300
        return _Source(
            name="escape",
            labels=tuple(f"escape peak of {self._name(parent)}" for parent in parents),
            energy_keV=energy - SILICON_K_ALPHA_KEV,
            height=counts / counts.max(),
            family=("",) * len(parents),
            present=ESCAPE_PRESENT,
            log_amount=density / density.sum(),
            rows=np.arange(first_row, first_row + len(parents)),
        )

    @cached_property
    def _energies(self) -> FloatArray:
        """Energies of all features, shape (feature,)."""
        return np.concatenate([source.energy_keV for source in self._sources])

    @cached_property
    def _filter(self) -> tuple[sparse.csr_array, FloatArray, FloatArray]:
        """Filters that read a peak's counts at every feature, (feature, energy), their widths and error variances."""
        shape = self.spectrum.ideal.matrix(self._energies, self.spectrum.edges_keV)
        width = np.asarray(self.spectrum.response.fwhm_keV(self._energies))
        shape[np.abs(self.spectrum.centres_keV - self._energies[:, None]) > width[:, None]] = 0.0
        information = np.maximum((shape**2 / self._variance).sum(axis=1), 1e-12)
        return sparse.csr_array(shape / self._variance / information[:, None]), width, 1.0 / information

    @cached_property
    def _variance(self) -> FloatArray:
        """Variance of the counts, shape (energy,)."""
        return np.maximum(self.spectrum.smooth, 0.5)

    @cached_property
    def _cache(self) -> dict[frozenset[str], _Readings]:
        return {}

    def _readings(self, beside: frozenset[str]) -> _Readings:
        """Read the spectrum at every feature with the named elements and others `beside` them."""
        if beside not in self._cache:
            self._cache[beside] = self._read(beside)
        return self._cache[beside]

    def _read(self, beside: frozenset[str]) -> _Readings:
        filters, width, variance = self._filter
        parts = self.spectrum.decompose(beside | set(self.named))
        owner = np.array([element for element, _ in parts.families], dtype=object)
        by_family = (filters @ parts.line_columns.T) * parts.line_counts
        lines = by_family.sum(axis=1)
        others = by_family[:, np.isin(owner, list(beside))].sum(axis=1)
        continuum = filters @ parts.continuum
        peaks = (filters @ parts.peak_columns.T) * parts.peak_counts
        left = filters @ self.spectrum.counts - continuum - lines - peaks.sum(axis=1)
        apart = np.abs(self._energies[:, None] - parts.peak_energies) > WITHIN_FWHM * width[:, None]
        foreign = np.where(apart, peaks, 0.0).sum(axis=1)
        variance = variance * self._misfit(left**2 / variance, width)
        variance += (SUBTRACTED_SD * (lines - others)) ** 2 + (SUBTRACTED_SD * foreign) ** 2
        variance += (CONTINUUM_SD * continuum) ** 2
        own = {element: by_family[:, owner == element].sum(axis=1) for element in set(owner) - beside}
        return _Readings(left + others + peaks.sum(axis=1) - foreign, others, np.sqrt(variance), own)

    def _misfit(self, squares: FloatArray, width: FloatArray) -> FloatArray:
        """Mean square of the standardised residuals around each feature, at least 1."""
        order = np.argsort(self._energies)
        total = np.concatenate([[0.0], np.cumsum(np.minimum(squares, MOST_MISFIT)[order])])
        sorted_energies = self._energies[order]
        first = np.searchsorted(sorted_energies, self._energies - MISFIT_FWHM * width)
        last = np.searchsorted(sorted_energies, self._energies + MISFIT_FWHM * width, side="right")
        return np.asarray(np.maximum((total[last] - total[first]) / (last - first), 1.0))

    def _here(self, source: _Source, peak: Peak) -> npt.NDArray[np.bool_]:
        """Which features of a source are part of a peak."""
        reach = WITHIN_FWHM * self.spectrum.fwhm_keV(peak.energy_keV)
        return np.asarray(np.abs(source.energy_keV - peak.energy_keV) <= reach)

    def _label(self, source: _Source, peak: Peak) -> str:
        here = self._here(source, peak)
        return source.labels[int(np.argmax(np.where(here, source.height, -1.0)))]

    @cached_property
    def _log_unknown(self) -> float:
        """Log weight of a peak that is none of the sources."""
        length = float(self.spectrum.edges_keV[-1] - self.spectrum.edges_keV[0])
        return float(np.log(UNKNOWN_PER_MAP / length / (self._grid[-1] - self._grid[0])))

    def _log_weights(self, source: _Source, peak: Peak, read: _Readings) -> tuple[float, float]:
        """Log of N(E) n_h / d_h, and of its likes where heights elsewhere are not heard."""
        here = self._here(source, peak)
        evidence = self._evidence(source, here, read)
        height = float(source.height[here].sum())
        position = float(np.average(source.energy_keV[here], weights=source.height[here]))
        error = np.sqrt(self._information[peak][0]) / peak.net_counts
        spread = float(np.hypot(RATIO_SD, min(error, 1.0)))
        distance = self._grid + np.log(height) - np.log(peak.net_counts)
        alone = np.exp(-0.5 * (distance / spread) ** 2) / (np.sqrt(2.0 * np.pi) * spread)
        shared = (np.abs(distance - np.mean(SHARED)) < 0.5 * np.ptp(SHARED)) / np.ptp(SHARED)
        makes = np.log(np.maximum((1.0 - BLEND) * alone + BLEND * shared, 1e-300))
        prior = np.log(np.maximum(source.log_amount, 1e-300))
        log_n = np.log(source.present) + _log_sum(prior + evidence + makes)
        less = self._grid + np.log(height) < np.log(0.5 * peak.net_counts)
        below = _log_sum((prior + evidence)[less]) if less.any() else -np.inf
        log_d = np.logaddexp(np.log1p(-source.present), np.log(source.present) + below)
        here_too = self._log_position(peak, position)
        odds = np.log(source.present) - np.log1p(-source.present)
        return float(here_too + log_n - log_d), float(here_too + odds + _log_sum(prior + makes))

    def _evidence(self, source: _Source, here: npt.NDArray[np.bool_], read: _Readings) -> FloatArray:
        """Log of the product of R_j over the features elsewhere, for each amount, shape (amount,)."""
        at = source.rows
        b = read.heights[at] + (read.own[source.name][at] if source.name in read.own else 0.0)
        expected = np.exp(self._grid) * source.height[:, None]
        others, s = read.others[at, None], read.errors[at, None]
        against = _log_likelihood(b[:, None], expected, others, s)
        against -= _log_likelihood(b[:, None], np.zeros((1, 1)), others, s)
        against = np.maximum(against, -MOST_AGAINST)
        largest = int(np.argmax(np.where(here, source.height, -1.0)))
        total = np.zeros(self._grid.size)
        for family in dict.fromkeys(source.family):
            members = np.array([name == family for name in source.family]) & ~here
            if not members.any():
                continue
            curve = against[members].sum(axis=0)
            if family != source.family[largest]:
                soft = min(source.energy_keV[members].min(), source.energy_keV[largest]) < SOFT_KEV
                curve = _blurred(curve, self._kernels[soft])
            total += curve
        return total

    @cached_property
    def _kernels(self) -> dict[bool, FloatArray]:
        """Log-normal factors between families as matrices over the amounts: of soft ones and of the others."""
        steps = self._grid[:, None] - self._grid
        kernels = {
            soft: np.exp(-0.5 * (steps / sd) ** 2)
            for soft, sd in ((True, SOFT_FAMILY_SD), (False, FAMILY_SD))
        }
        return {soft: kernel / kernel.sum(axis=1, keepdims=True) for soft, kernel in kernels.items()}

    @cached_property
    def _information(self) -> dict[Peak, tuple[float, float]]:
        """Variances of counts and energy of each peak from the counts around it."""
        spectrum = self.spectrum
        energies = np.array([peak.energy_keV for peak in spectrum.peaks])
        shapes = spectrum.ideal.matrix(energies, spectrum.edges_keV)
        result = {}
        for peak, shape in zip(spectrum.peaks, shapes, strict=True):
            sigma2 = spectrum.fwhm_keV(peak.energy_keV) ** 2 / FWHM2_PER_VARIANCE
            slope = peak.net_counts * shape * (spectrum.centres_keV - peak.energy_keV) / sigma2
            information = [float((part**2 / self._variance).sum()) for part in (shape, slope)]
            result[peak] = (1.0 / information[0], 1.0 / information[1])
        return result

    def _log_position(self, peak: Peak, energy_keV: float) -> float:
        """Log density of a peak's energy when the source lies at another one."""
        width = self.spectrum.fwhm_keV(peak.energy_keV)
        known = self._information[peak][1] + LINE_KEV**2 + AXIS_KEV**2 + (SHAPE_FWHM * width) ** 2
        away2 = (peak.energy_keV - energy_keV) ** 2
        parts = [
            np.log(share) - 0.5 * away2 / variance - 0.5 * np.log(2.0 * np.pi * variance)
            for share, variance in ((1.0 - BLEND, known), (BLEND, known + (BLEND_FWHM * width) ** 2))
        ]
        return float(np.logaddexp(*parts))


def _log_likelihood(b: FloatArray, expected: FloatArray, others: FloatArray, s: FloatArray) -> FloatArray:
    """Log density of heights b where `expected` and noise s stand, perhaps also `others` or something unknown."""
    # As of a log-normal ratio: a line that is missing has noise alone for an excuse.
    variance = s**2 + RATIO_SD**2 * expected * np.clip(b, 0.0, expected)
    rest = b - expected
    # Other elements that were found may make what is there, or this one does.
    noise = np.logaddexp(
        _log_normal(rest, variance), _log_normal(rest - others, variance + (RATIO_SD * others) ** 2)
    )
    sd = np.sqrt(variance)
    # Something unknown is uniform in its logarithm over the ten e-foldings that peaks of a spectrum span.
    beside = log_ndtr(rest / sd) - np.log(10.0 * np.maximum(rest, sd))
    return np.asarray(np.logaddexp(np.log(0.5 * (1.0 - BESIDE)) + noise, np.log(BESIDE) + beside))


def _log_normal(distance: FloatArray, variance: FloatArray) -> FloatArray:
    return np.asarray(-0.5 * distance**2 / variance - 0.5 * np.log(2.0 * np.pi * variance))


def _blurred(curve: FloatArray, kernel: FloatArray) -> FloatArray:
    """Average of exp(curve) over a factor on the amount, as a logarithm."""
    top = curve.max()
    return np.asarray(top + np.log(np.maximum(kernel @ np.exp(curve - top), 1e-300)))


def _log_sum(terms: FloatArray) -> float:
    """Log of the sum of exponentials."""
    top = float(terms.max())
    return top + float(np.log(np.exp(terms - top).sum()))
