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
`UNKNOWN_PER_MAP` of peaks anywhere on the axis. Priors are in `presence_prior`.

The hypotheses exclude each other: a peak to which two elements contribute alike is shared between them as doubt.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, logsumexp

from bayesunmix.peaks import Decomposition, Peak, SumSpectrum
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
LINE_KEV, AXIS_KEV, SHAPE_FWHM = 0.002, 0.002, 0.02
BLEND, BLEND_FWHM = 0.05, 0.2
# Features closer than this to a peak are part of it.
WITHIN_FWHM = 0.6
# A single feature can speak against a source by so much: no model of a spectrum is sure beyond this.
MOST_AGAINST = 25.0
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
class Candidate:
    """One possible source of a peak.

    Parameters
    ----------
    name
        Element, ``pile-up``, ``escape`` or ``unknown``.
    label
        In words: ``Fe Kα``, ``sum of 1.740 and 1.254 keV``.
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


@dataclass(frozen=True)
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

    def candidates(self, peak: Peak, known: Collection[str] = ()) -> list[Candidate]:
        """Return the possible sources of a peak, likeliest first, with probabilities that add up to 1.

        Parameters
        ----------
        peak
            One of the spectrum's peaks.
        known
            Elements that explain other peaks: what they make elsewhere is subtracted before missing lines are judged.
            Those that could make this peak are not, unless they are named.
        """
        near = {source.name for source in self._sources if self._here(source, peak).any()}
        context = frozenset(self.named) | frozenset(e for e in known if e not in near)
        heights, errors = self._heights(context)
        found = []
        for source in self._sources:
            if source.name in near:
                log_weight = self._log_weight(source, peak, heights, errors, context)
                found.append((source, log_weight))
        logs = np.array([weight for _, weight in found] + [self._log_unknown()])
        shares = np.exp(logs - logsumexp(logs))
        result = [
            Candidate(source.name, self._label(source, peak), float(share))
            for (source, _), share in zip(found, shares[:-1], strict=True)
        ]
        result.append(Candidate("unknown", "none of these", float(shares[-1])))
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
                    element,
                    tuple(groups[place].label for place in places),
                    np.array([groups[place].energy_keV for place in places]),
                    strength / strength.max(),
                    tuple(groups[place].family for place in places),
                    presence_prior(element, self.named),
                    flat,
                    np.arange(count, count + len(places)),
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
            "pile-up",
            tuple(f"sum of {a.energy_keV:.3f} and {b.energy_keV:.3f} keV (pile-up)" for a, b in self._pairs),
            np.array([a.energy_keV + b.energy_keV for a, b in self._pairs]),
            product / product.max(),
            tuple(family),
            PILE_UP_PRESENT,
            inside / inside.sum(),
            np.arange(first_row, first_row + len(self._pairs)),
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
            "escape",
            tuple(f"escape peak of {parent:.3f} keV" for parent in energy),
            energy - SILICON_K_ALPHA_KEV,
            counts / counts.max(),
            ("",) * len(parents),
            ESCAPE_PRESENT,
            density / density.sum(),
            np.arange(first_row, first_row + len(parents)),
        )

    @cached_property
    def _filter(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Filters that read a peak's counts at every feature, (feature, energy), their widths and error variances."""
        energy = np.concatenate([source.energy_keV for source in self._sources])
        shape = self.spectrum.ideal.matrix(energy, self.spectrum.edges_keV)
        width = np.asarray(self.spectrum.response.fwhm_keV(energy))
        far = np.abs(self.spectrum.centres_keV - energy[:, None]) > width[:, None]
        shape[far] = 0.0
        variance = np.maximum(self.spectrum.smooth, 0.5)
        information = np.maximum((shape**2 / variance).sum(axis=1), 1e-12)
        return shape / variance / information[:, None], width, 1.0 / information

    @cached_property
    def _cache(self) -> dict[frozenset[str], tuple[FloatArray, FloatArray, Decomposition, FloatArray]]:
        return {}

    def _heights(self, context: frozenset[str]) -> tuple[FloatArray, FloatArray]:
        """Return the counts above everything known at every feature, and their standard errors."""
        if context not in self._cache:
            self._cache[context] = self._read(context)
        return self._cache[context][:2]

    def _read(self, context: frozenset[str]) -> tuple[FloatArray, FloatArray, Decomposition, FloatArray]:
        spectrum = self.spectrum
        filters, width, variance = self._filter
        energy = np.concatenate([source.energy_keV for source in self._sources])
        parts = spectrum.decompose(context)
        lines = filters @ (parts.line_counts @ parts.line_columns)
        continuum = filters @ parts.continuum
        foreign = filters @ (parts.peak_counts[:, None] * parts.peak_columns).T
        apart = np.abs(energy[:, None] - parts.peak_energies) > WITHIN_FWHM * width[:, None]
        others = np.where(apart, foreign, 0.0).sum(axis=1)
        heights = filters @ spectrum.counts - continuum - lines - others
        errors = np.sqrt(
            variance
            + (SUBTRACTED_SD * lines) ** 2
            + (SUBTRACTED_SD * others) ** 2
            + (CONTINUUM_SD * continuum) ** 2
        )
        return heights, errors, parts, filters @ parts.line_columns.T * parts.line_counts

    def _own(self, source: _Source, context: frozenset[str]) -> FloatArray:
        """Return what a known source makes itself at its features, to be added again."""
        parts, by_family = self._cache[context][2:]
        mine = np.array([element == source.name for element, _ in parts.families], dtype=bool)
        return np.asarray(by_family[source.rows][:, mine].sum(axis=1))

    def _here(self, source: _Source, peak: Peak) -> npt.NDArray[np.bool_]:
        """Which features of a source are part of a peak."""
        reach = WITHIN_FWHM * self.spectrum.fwhm_keV(peak.energy_keV)
        return np.asarray(np.abs(source.energy_keV - peak.energy_keV) <= reach)

    def _label(self, source: _Source, peak: Peak) -> str:
        here = self._here(source, peak)
        return source.labels[int(np.argmax(np.where(here, source.height, -1.0)))]

    def _log_unknown(self) -> float:
        length = float(self.spectrum.edges_keV[-1] - self.spectrum.edges_keV[0])
        return float(np.log(UNKNOWN_PER_MAP / length / (self._grid[-1] - self._grid[0])))

    def _log_weight(
        self, source: _Source, peak: Peak, heights: FloatArray, errors: FloatArray, context: frozenset[str]
    ) -> float:
        """Log of N(E) n_h / d_h."""
        here = self._here(source, peak)
        at = source.rows
        b = heights[at] + (self._own(source, context) if source.name in context else 0.0)
        evidence = self._evidence(source, here, b, errors[at])
        height = float(source.height[here].sum())
        position = float(np.average(source.energy_keV[here], weights=source.height[here]))
        error = np.sqrt(self._information(peak)[0]) / peak.net_counts
        spread = float(np.hypot(0.1, min(error, 1.0)))
        distance = (self._grid + np.log(height) - np.log(peak.net_counts)) / spread
        makes = -0.5 * distance**2 - np.log(np.sqrt(2.0 * np.pi) * spread)
        prior = np.log(np.maximum(source.log_amount, 1e-300))
        log_n = np.log(source.present) + logsumexp(prior + evidence + makes)
        less = self._grid + np.log(height) < np.log(0.5 * peak.net_counts)
        below = logsumexp((prior + evidence)[less]) if less.any() else -np.inf
        log_d = np.logaddexp(np.log1p(-source.present), np.log(source.present) + below)
        return float(self._log_position(peak, position) + log_n - log_d)

    def _evidence(
        self, source: _Source, here: npt.NDArray[np.bool_], b: FloatArray, s: FloatArray
    ) -> FloatArray:
        """Log of the product of R_j over the features elsewhere, for each amount, shape (amount,)."""
        amount = np.exp(self._grid)
        largest = int(np.argmax(np.where(here, source.height, -1.0)))
        own = source.family[largest]
        total = np.zeros(amount.size)
        for family in dict.fromkeys(source.family):
            members = np.flatnonzero([name == family for name in source.family] & ~here)
            if not members.size:
                continue
            against = _log_ratio(amount * source.height[members, None], b[members, None], s[members, None])
            curve = np.maximum(against, -MOST_AGAINST).sum(axis=0)
            if family != own:
                soft = min(source.energy_keV[members].min(), source.energy_keV[largest]) < SOFT_KEV
                curve = self._blurred(curve, SOFT_FAMILY_SD if soft else FAMILY_SD)
            total += curve
        return total

    def _blurred(self, curve: FloatArray, sd: float) -> FloatArray:
        """Average of exp(curve) over a log-normal factor on the amount, as a logarithm."""
        step = (self._grid[:, None] - self._grid) / sd
        kernel = -0.5 * step**2
        kernel -= logsumexp(kernel, axis=1, keepdims=True)
        return np.asarray(logsumexp(kernel + curve, axis=1))

    def _information(self, peak: Peak) -> tuple[float, float]:
        """Variances of counts and energy of a peak from the counts around it."""
        spectrum = self.spectrum
        sigma = spectrum.fwhm_keV(peak.energy_keV) / np.sqrt(FWHM2_PER_VARIANCE)
        shape = spectrum.ideal.matrix(np.array([peak.energy_keV]), spectrum.edges_keV)[0]
        variance = np.maximum(spectrum.smooth, 0.5)
        slope = peak.net_counts * shape * (spectrum.centres_keV - peak.energy_keV) / sigma**2
        return 1.0 / float((shape**2 / variance).sum()), 1.0 / float((slope**2 / variance).sum())

    def _log_position(self, peak: Peak, energy_keV: float) -> float:
        """Log density of a peak's energy when the source lies at another one."""
        width = self.spectrum.fwhm_keV(peak.energy_keV)
        known = self._information(peak)[1] + LINE_KEV**2 + AXIS_KEV**2 + (SHAPE_FWHM * width) ** 2
        away2 = (peak.energy_keV - energy_keV) ** 2
        parts = [
            np.log(share) - 0.5 * away2 / variance - 0.5 * np.log(2.0 * np.pi * variance)
            for share, variance in ((1.0 - BLEND, known), (BLEND, known + (BLEND_FWHM * width) ** 2))
        ]
        return float(np.logaddexp(*parts))


def _log_ratio(expected: FloatArray, b: FloatArray, s: FloatArray) -> FloatArray:
    """Log of L(expected) / L(0) at features with heights b and errors s; arrays broadcast."""
    # As of a log-normal ratio: a line that is missing has noise alone for an excuse.
    tolerance = RATIO_SD**2 * expected * np.clip(b, 0.0, expected)
    return np.asarray(_log_likelihood(b - expected, s**2 + tolerance) - _log_likelihood(b, s**2))


def _log_likelihood(rest: FloatArray, variance: FloatArray) -> FloatArray:
    """Log density of a height that is `rest` above what is expected: noise, or something unknown beside it."""
    sd = np.sqrt(variance)
    noise = -0.5 * rest**2 / variance - np.log(np.sqrt(2.0 * np.pi) * sd)
    # Uniform in its logarithm over the ten e-foldings that peaks of a spectrum span.
    beside = log_ndtr(rest / sd) - np.log(10.0 * np.maximum(rest, sd))
    return np.asarray(np.logaddexp(np.log1p(-BESIDE) + noise, np.log(BESIDE) + beside))
