"""The parts of the record of a run: what was measured, asked, fitted and found, as ``run.json`` holds it.

What a check finds is a value of its own (`bayesunmix.checks.outcomes`); here is the rest. Parts are frozen. Keys that
a later version adds do no harm: they are passed over, and in the configuration they are kept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bayesunmix.chemistry.compounds import NONE_OF_THESE

Pair = tuple[float, float]
# Names that a line of text has room for, and the probability from which one is worth it.
_MOST_NAMES, _WORTH = 4, 0.02


class Part(BaseModel):
    """A table of the record."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
    )


class ConfigPart(Part):
    """A table of the configuration: what no reader asks for is kept as it was written."""

    model_config = ConfigDict(extra="allow")


class LeftOut(Part):
    """Pixels that take no part."""

    reason: str
    """Continues "pixels ..."."""
    pixels: int


class Facts(ConfigPart):
    """What is known of the measurement; what is unknown is missing."""

    beam_energy_keV: float | None = None
    takeoff_angle_deg: float | None = None


class Map(Part):
    """The map that was unmixed."""

    name: str | None = None
    shape: tuple[int, int, int] | None = None
    """Rows, columns and channels."""
    hash: str = ""
    """Of the counts as they were given: the same for all runs of a map, whatever pixels and energies they use."""
    left_out: tuple[LeftOut, ...] = ()
    energy_keV: Pair | None = None
    """Centres of the first and last channel that were fitted."""
    acquisition: Facts = Facts()
    sources: dict[str, str] = Field(default_factory=dict)
    """Where each fact comes from: file, configuration, library default, assumption."""
    missing: tuple[str, ...] = ()
    """Facts that nobody gave."""
    file: str | None = None
    """File that the map was read from; None for one of no file, or of which a part was unmixed."""
    signal: int | None = None
    """Which of the file's signals it is, where one was named."""


class MapConfig(ConfigPart):
    """The table ``[map]``."""

    energy_range: Pair | None = None


class SampleConfig(ConfigPart):
    """The table ``[sample]``."""

    elements: tuple[str, ...] | None = None
    stray: tuple[str, ...] = ()
    oxygen: Literal["stoichiometry", "measured", "none"] = "stoichiometry"
    thickness_nm: Pair | None = None
    density_g_cm3: Pair | None = None
    bulk_wt_pct: dict[str, Any] | None = None


class InstrumentConfig(ConfigPart):
    """The table ``[instrument]``."""

    beam_energy_keV: float | None = None
    takeoff_angle_deg: float | None = None


class XrayConfig(ConfigPart):
    """The table ``[xray]``."""

    k_factors: dict[str, Pair] | None = None
    zeta_factors: dict[str, Pair] | None = None


class PhaseConfig(ConfigPart):
    """One of the tables ``[[phases]]``."""

    name: str
    absent: tuple[str, ...] = ()
    matrix: bool = False
    stoichiometry: str | None = None
    composition: dict[str, Pair | float] = {}
    """Mean and standard deviation of what is declared; a number is the truth of a map that `simulate` draws."""
    region: dict[str, Any] | None = None
    rich: tuple[str, ...] = ()
    poor: tuple[str, ...] = ()
    reference: dict[str, Any] | None = None

    @property
    def soft_composition(self) -> dict[str, Pair]:
        """Mean and standard deviation of the atom fractions that are declared."""
        return {name: value for name, value in self.composition.items() if isinstance(value, tuple)}


class InferenceConfig(ConfigPart):
    """The table ``[inference]``."""

    level: Annotated[float, Field(gt=0.0, lt=1.0)]
    chains: int | None = None
    draws: int | None = None
    warmup: int | None = None


class OutputConfig(ConfigPart):
    """The table ``[output]``."""

    units: tuple[str, ...] = ()
    oxygens: float | dict[str, float] | None = None
    ferric: float | Pair | dict[str, float | Pair] | None = None
    valences: dict[str, float] | None = None
    compounds: str | None = None
    occurs_in: str | None = None
    pixel_draws: bool = False
    pixel_draws_number: int = 50

    @property
    def further_units(self) -> tuple[str, ...]:
        """Units beside atom fractions, which are always given."""
        return tuple(unit for unit in self.units if unit != "at_frac")


class Config(ConfigPart):
    """The configuration as it was used."""

    map: MapConfig = MapConfig()
    sample: SampleConfig = SampleConfig()
    instrument: InstrumentConfig = InstrumentConfig()
    xray: XrayConfig = XrayConfig()
    inference: InferenceConfig
    output: OutputConfig = OutputConfig()
    priors: dict[str, float] = Field(default_factory=dict)
    """Widths; empty where the run's version had them fixed."""
    phases: Annotated[tuple[PhaseConfig, ...], Field(min_length=1)]


class ReferenceSpectrum(Part):
    """What the spectrum of a phase alone says of its composition, with nominal line strengths."""

    phase: str
    counts: int
    """In the fitted energies."""
    deviance_per_dof: float
    atom_fractions: dict[str, float]
    """Among the elements with lines in it; below zero, within its error, where an element is not there."""
    counting_sd: dict[str, float]
    """Of these, by counting alone."""
    sd: dict[str, float]
    """... with everything by which the phase in the map may differ: thickness, absorption, tolerance."""


class ProgramUse(Part):
    """Compiled programs of one name."""

    name: str
    compiled: int
    """How many shapes of arrays it was compiled for."""
    read: int
    """How many were read from those that earlier runs had kept."""
    seconds: float
    """That this took."""


class Binning(Part):
    """What was merged for the fit of the spectra."""

    bins: int
    block_side: int
    """Pixels along the side of a block."""
    channels: int | None = None
    blocks: int | None = None
    mean_counts_per_block: float | None = None


class Axis(Part):
    """Where the energy axis comes from, and what its fit makes of it."""

    source: str
    """``file``, ``configuration``, or ``found`` where the file's was off."""
    gain: float
    offset_keV: float
    """Energy on the axis = offset + gain x true energy."""
    shift_keV: float
    at_keV: float
    """By how much the strongest line appears too high, and its energy."""
    first_keV: float
    step_keV: float
    """True energy of the first channel's centre, and width of a channel."""


class Response(Part):
    """The detector's response, fitted to the sum spectrum."""

    gain: float | None = None
    offset_keV: float | None = None
    noise_eV: float | None = None
    fano: float | None = None
    bend_eV: tuple[float, ...] = ()
    collection_depth_um: float | None = None
    surface_collection: float | None = None
    escape: float | None = None
    pile_up: tuple[Pair, ...] = ()
    bonded_k_beta_eV: float | None = None
    standard_errors: dict[str, float] = Field(default_factory=dict)


class Film(Part):
    """Thickness and density of the film with their standard deviations, and what they leave open."""

    thickness_nm: Pair
    density_g_cm3: Pair
    mass_thickness_relative_sd: float
    absorption_coefficient_relative_sd: float
    absorption_depth_relative_sd: float


class StartingPoint(Part):
    """The maximum of the posterior that one starting point led to; the best comes first."""

    objective: float
    """Log of its odds to the best one, taken negative: exp(-objective) to 1."""
    same_mode: bool
    """Whether it is the best one itself."""
    followed: bool = True
    """Whether it was followed to its end."""
    composition: tuple[tuple[float | None, ...], ...] | None = None
    """Atom fractions by phase and element."""


class ExactSteps(Part):
    """What exact steps made of the draws of an approximation."""

    acceptance: float
    worst_quantity: str
    shift_sd: float
    width_ratio: float
    """By how much the worst quantity moved, in standard deviations, and how many times as wide it became."""
    holds: bool


class Diagnostics(Part):
    """Whether search and draws did what they should."""

    whitened_gradient_norm: float | None = None
    """Distance of the point where the search ended from the mode, in posterior standard deviations."""
    mode_converged: bool | None = None
    smallest_curvature: float | None = None
    parameters: int | None = None
    support_points: int | None = None
    """Of the abundance prior."""
    stretched_directions: int | None = None
    divergences: int | None = None
    leapfrog_steps_per_draw: float | None = None
    acceptance_rate: float | None = None
    pareto_k: float | None = None
    importance_effective_draws: float | None = None
    resampled: bool | None = None
    exact_steps: ExactSteps | None = None
    guide: str | None = None
    elbo: float | None = None
    elbo_gain: float | None = None
    svi_rounds: int | None = None
    svi_converged: bool | None = None
    rhat_max: float | None = None
    ess_bulk_min: float | None = None
    ess_tail_min: float | None = None


class PixelThickness(Part):
    """What the map says about thickness from pixel to pixel, beside its priors."""

    relative_sd: float
    absorption_scale_prior_sd: float
    absorption_scale: float
    absorption_scale_sd: float
    stray_exponent_prior_sd: float
    stray_exponent: float
    stray_exponent_sd: float


class MeanSd(Part):
    """Mean and standard deviation of draws."""

    mean: float
    sd: float


class LineShapes(Part):
    """Posterior of the response, from the draws of the directions that the fit leaves open."""

    directions: int
    response: dict[str, MeanSd] = Field(default_factory=dict)


class MassThicknessRow(Part):
    """Mass thickness of the whole map, or of the pixels that are most probably one phase alone."""

    where: str
    unit: str
    mean: float
    sd: float | None = None
    median: float | None = None
    lower: float
    upper: float
    level: float | None = None


class MassThickness(Part):
    """Mass thickness from zeta-factors."""

    electrons_per_pixel: float | None = None
    table: tuple[MassThicknessRow, ...]


class OpenRotation(Part):
    """How far one phase can go from another one, and towards it, at no cost to the fit."""

    phase: str
    other: str
    outwards: float
    """Largest share of the other phase that can be taken out of its counts."""
    inwards: float
    """Amount of the other phase that it can gain for one nat."""


class Rotations(Part):
    """Solutions that fit as well as the one that was found, which the draws hold."""

    pure: float
    """Prior probability that some pixel of a phase is pure."""
    absent: float
    """Prior probability that an element of another phase is exactly absent from it."""
    open: tuple[OpenRotation, ...]
    """From the best of them on; what is only worse than that is not listed, and may be what the draws reach back to."""
    rotated: tuple[str, ...] = ()
    """Phases that draws have other spectra of than the solution that was found."""
    effective_candidates: float
    """What all candidates are worth, by their weights."""


class Budget(Part):
    """How the uncertainty budget was made."""

    sources: tuple[str, ...]
    order: str


class PhaseScore(Part):
    """Held-out score of one number of phases."""

    k: int
    score: float
    """Relative to the best."""
    se: float
    """Of that difference."""


class Presence(Part):
    """What speaks for a phase."""

    phase: str
    standing: Literal["supported", "unsupported", "variation", "mixture"]
    """Held-out counts ask for it, or not; or it may be another phase that varies, or where others meet."""
    gain: float
    gain_se: float
    """What the held-out score gains from it, in nats, and the standard error of that."""
    apart: float
    """Relative difference of its counts by element from the mixture of the others that is most like it, root mean
    square."""
    shown: float
    """The part of it that the map shows."""
    pure: float
    """Part of its counts in blocks that hold hardly anything else."""
    like: dict[str, float]
    """Shares of the others in that mixture."""


class ProposedName(Part):
    """What a phase may be, by its composition."""

    name: str
    formula: str
    group: str = ""
    probability: float
    member: str = ""
    """Main end member of a solid solution that it lies nearest to, with its share."""
    unmeasured: tuple[str, ...] = ()
    """Elements of it that the map does not measure."""
    alike: tuple[str, ...] = ()
    """Others that the composition does not tell from it."""
    source: str = ""


class PhaseNames(Part):
    """What one phase may be, the most probable first."""

    phase: str
    none: float
    """Probability that it is none of the library's."""
    proposed: tuple[ProposedName, ...] = ()
    open: tuple[str, ...] = ()
    """Elements whose amounts the map leaves open, so that they decide between names."""

    def text(self) -> str:
        """Name those that are worth it, as ``Bridgmanite (0.71), Akimotoite (0.11); none of these (0.02)``."""
        worth = [one for one in self.proposed[:_MOST_NAMES] if one.probability >= _WORTH]
        named = ", ".join(f"{one.name} ({one.probability:.2f})" for one in worth)
        return "; ".join(filter(None, [named, f"{NONE_OF_THESE} ({self.none:.2f})"]))


class CountedPhase(Part):
    """One of the phases that were counted, as it was found on half of the counts."""

    composition: dict[str, float]
    share: float
    """Of the counts."""
    gain: float | None
    gain_se: float | None
    """What the held-out score would lose without it, in nats, and its standard error; none where it is alone."""
    apart: float | None
    """Relative difference of its counts by element from the mixture of the others that is most like it, root mean
    square."""


class MixturePart(Part):
    """A phase in a mixture."""

    composition: dict[str, float]
    share: float


class TriedPhase(Part):
    """One of the phases that were tried."""

    composition: dict[str, float]
    share: float
    lines: float
    """Share of its counts in lines of the sample's elements."""


class FurtherPhase(Part):
    """What the phases are with one more of them, which nobody asked for."""

    gain: float
    gain_se: float
    """What the held-out score gains from it, in nats, and the standard error of that."""
    phases: tuple[TriedPhase, ...]
    """All of them, as they were found on half of the counts, with their shares of these."""


class UncountedPhase(Part):
    """A phase that was tried, and is none."""

    composition: dict[str, float]
    share: float
    """Of the counts."""
    gain: float
    gain_se: float
    """What it adds to the held-out score, in nats, and the standard error of that."""
    reason: Literal["unsupported", "variation", "mixture"]
    """Held-out counts do not ask for it; it is another phase that varies, or where others meet."""
    apart: float | None = None
    """As for a phase that is counted."""
    like: tuple[MixturePart, ...] = ()
    """The mixture of the others that is most like it."""


class PhaseNumber(Part):
    """The number of phases that was inferred, how it came about, and what was not counted."""

    chosen: int
    curve: tuple[PhaseScore, ...]
    phases: tuple[CountedPhase, ...] = ()
    left_out: tuple[UncountedPhase, ...] = ()
    """The first is what the next phase would have been."""
