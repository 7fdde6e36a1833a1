"""What the checks find, as plain values: fields of the record of a run (`bayesunmix.results.record`)."""

from __future__ import annotations

from dataclasses import dataclass

from bayesunmix.checks.regions import MapRegion


@dataclass(frozen=True, kw_only=True)
class ResidualRegion:
    """A stretch of one spectrum where the fit misses the counts.

    Attributes
    ----------
    spectrum
        ``whole map``, or the phase whose pixels' spectrum it is.
    low_keV, high_keV
        Outer edges.
    energy_keV, sigma
        Middle of the window with the largest residual, and that residual with its sign.
    excess_counts
        Observed less expected counts of that window.
    cause
        What it may come from.
    elements
        Elements whose main lines lie there.
    chance
        Probability that noise makes one like it anywhere in the scan.
    """

    spectrum: str
    low_keV: float
    high_keV: float
    energy_keV: float
    sigma: float
    excess_counts: float
    cause: str
    chance: float
    elements: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ResidualScan:
    """The scan of the sum spectrum and of every phase's held-out spectrum for regions of residuals.

    Attributes
    ----------
    threshold_sigma
        Residual beyond which a region is listed.
    widths
        Widths of the detector that were looked at.
    regions_expected_of_noise
        How many regions noise alone makes.
    global_threshold_sigma
        Residual that noise exceeds anywhere with a probability of 5 %.
    regions
        In order of spectrum and energy.
    """

    threshold_sigma: float
    regions_expected_of_noise: float
    global_threshold_sigma: float
    regions: tuple[ResidualRegion, ...]
    widths: float | None = None


@dataclass(frozen=True, kw_only=True)
class Goodness:
    """How well the spectra fit.

    Attributes
    ----------
    deviance_per_dof_total, deviance_per_dof_segments
        Poisson deviance per degree of freedom of the sum spectrum, and of the held-out spectra of the pixels that are
        labelled as each phase; about 1 where counting noise alone is left.
    deviance_per_dof_by_segment
        The latter one by one; only early versions gave it.
    misplaced
        Share of the counts of the sum spectrum that lie elsewhere than the model has them, beyond noise.
    residuals
        Where the fit misses the counts.
    """

    deviance_per_dof_total: float | None = None
    deviance_per_dof_segments: float | None = None
    deviance_per_dof_by_segment: tuple[float | None, ...] | None = None
    misplaced: float | None = None
    residuals: ResidualScan | None = None


@dataclass(frozen=True, kw_only=True)
class UnmodelledRegions:
    """Regions of the map whose counts no mixture of the declared phases explains, and the search for them.

    Attributes
    ----------
    threshold
        Standardised residual beyond which a region is listed.
    false_alarm
        Share of maps without fault in which it is passed anywhere.
    spread
        How many times as much as counting explains the whole map scatters.
    largest
        Largest standardised residual of the map.
    regions
        The strongest first.
    """

    threshold: float
    regions: tuple[MapRegion, ...]
    false_alarm: float | None = None
    spread: float = 1.0
    largest: float | None = None


@dataclass(frozen=True, kw_only=True)
class PlaceAside:
    """A region of significant residual with its surroundings, which the endmembers were not fitted to.

    Attributes
    ----------
    y, x
        Pixel in the middle.
    pixels, counts
    """

    y: float
    x: float
    pixels: int
    counts: int


@dataclass(frozen=True, kw_only=True)
class FirstComposition:
    """A composition as the whole map gave it, before anything was set aside.

    Attributes
    ----------
    phase, element
    at_frac
        Median atom fraction.
    lower, upper
        Ends of its interval: of the mode's curvature and the line strengths, rotations and heterogeneity left out.
    """

    phase: str
    element: str
    at_frac: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Pixels that the endmembers were not fitted to, since no mixture of the declared phases explains them.

    Attributes
    ----------
    pixels, counts
        In all.
    share_of_counts
        Of the map.
    passes
        Fits without what a search had found.
    settled
        Whether the last search found what was set aside and nothing else.
    places
    before
        Compositions as the whole map gave them.
    """

    pixels: int
    counts: int
    share_of_counts: float
    passes: int
    settled: bool
    places: tuple[PlaceAside, ...]
    before: tuple[FirstComposition, ...]


@dataclass(frozen=True, kw_only=True)
class SdRatio:
    """How much wider one atom fraction is for the heterogeneity of the map.

    Attributes
    ----------
    phase, element
    sd_ratio
        Standard deviation with heterogeneity over the model's, of counting and unmixing alone.
    sd_ratio_untested
        The same with all directions, whether they differ by more than a homogeneous map's or not.
    """

    phase: str
    element: str
    sd_ratio: float
    sd_ratio_untested: float


@dataclass(frozen=True, kw_only=True)
class Heterogeneity:
    """Whether areas of the map differ by more than a homogeneous sample would, and what it does to the intervals.

    Attributes
    ----------
    widened
        Whether the intervals were widened for it.
    reason
        Why, or why not.
    areas
        Areas that were compared.
    p_value
        Probability of as much difference in a homogeneous map.
    directions
        Directions of the parameters in which they differ.
    quantities
        Atom fractions of what is clearly there.
    """

    reason: str
    widened: bool = False
    areas: int | None = None
    p_value: float | None = None
    directions: int | None = None
    quantities: tuple[SdRatio, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DiscrepancyRegion:
    """A stretch of the axis where the spectra may be off by more than counting.

    Attributes
    ----------
    low_keV, high_keV
    percent
        Standard deviation of the relative error there, in per cent, where it is largest.
    """

    low_keV: float
    high_keV: float
    percent: float


@dataclass(frozen=True, kw_only=True)
class DiscrepancyEffect:
    """What the error of the spectra does to one atom fraction.

    Attributes
    ----------
    phase, element
    sd_ratio
        Standard deviation with it over that without, of counting and unmixing alone.
    shift
        By how much the mean moves, in standard deviations without it.
    """

    phase: str
    element: str
    sd_ratio: float
    shift: float


@dataclass(frozen=True, kw_only=True)
class SpectralDiscrepancy:
    """How far the spectra are off where they do not fit, as the residuals show it, and what that does to the intervals.

    Attributes
    ----------
    regions
        In order of energy; none where counting alone explains the residuals, and nothing was changed.
    quantities
        Atom fractions of what was not declared absent.
    """

    regions: tuple[DiscrepancyRegion, ...] = ()
    quantities: tuple[DiscrepancyEffect, ...] = ()


@dataclass(frozen=True, kw_only=True)
class NonIdentifiable:
    """Two phases of which the first could hold some of the second, or lose it, at no cost to the fit or hardly any.

    Attributes
    ----------
    phase, other
    share
        The largest share of the first phase's counts that could be the other's.
    weakly_pinned_by
        Scarce components of the other phase that alone say no to it; empty where none does.
    in_intervals
        Whether the intervals include that share.
    """

    phase: str
    other: str
    share: float
    weakly_pinned_by: tuple[str, ...] = ()
    in_intervals: bool = False


@dataclass(frozen=True, kw_only=True)
class PinnedComposition:
    """What pins one composition.

    Attributes
    ----------
    phase, element
    at_frac
        Atom fraction at the mode.
    sd
        Its standard deviation, errors of the line strengths left out.
    flat_sd
        The part of it that comes from unknown abundances.
    flat_low, flat_high
        Ends of the exact rotations that the declarations allow.
    pinned_by, sd_without
        The declaration that does most for it, empty where the counts alone decide, and the sd without.
    would_gain, sd_with
        The further declaration that would do most, empty where nothing would help, and the sd with it.
    """

    phase: str
    element: str
    at_frac: float
    sd: float
    flat_sd: float
    flat_low: float
    flat_high: float
    pinned_by: str | None = None
    sd_without: float | None = None
    would_gain: str | None = None
    sd_with: float | None = None


@dataclass(frozen=True, kw_only=True)
class Place:
    """A composition: phase and element."""

    phase: str
    element: str


@dataclass(frozen=True, kw_only=True)
class DeclarationEffect:
    """What one declaration does where it does most.

    Attributes
    ----------
    phase, declaration
    does_most_for
    sd_times_without
        How many times as uncertain that composition would be without.
    shift_without
        By how much its atom fraction would move.
    """

    phase: str
    declaration: str
    does_most_for: Place
    sd_times_without: float
    shift_without: float


@dataclass(frozen=True, kw_only=True)
class FlatDirection:
    """A direction of the compositions that the counts hold little.

    Attributes
    ----------
    kept
        Share of the information with known abundances that is left.
    phase, element, change
        Where it moves most, and by how much at one posterior standard deviation.
    """

    kept: float
    phase: str
    element: str
    change: float


@dataclass(frozen=True, kw_only=True)
class Identifiability:
    """What pins the phases and their compositions.

    Attributes
    ----------
    non_identifiable
        Pairs of phases, the worst first.
    compositions
        Every one that was not declared zero; none for a run without the line model.
    declarations
    flat_directions
        The flattest first.
    """

    non_identifiable: tuple[NonIdentifiable, ...] = ()
    compositions: tuple[PinnedComposition, ...] = ()
    declarations: tuple[DeclarationEffect, ...] = ()
    flat_directions: tuple[FlatDirection, ...] = ()
