"""From binned counts and declared knowledge to the arrays of the model, and the model as a function of one vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import jax
import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.given_names import NO_NAMES, GivenNames
from bayesunmix.config.overlap import Overlap
from bayesunmix.config.phase import Phase, hosts, supports_of
from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.fit.reference_fit import ReferenceComposition
from bayesunmix.fit.setup import Setup, block_tiles, known_blocks
from bayesunmix.fit.statements import statements_on
from bayesunmix.forward.pixel_thickness import PixelThickness
from bayesunmix.forward.spectra import ForwardModel
from bayesunmix.inference.compilation import Program
from bayesunmix.inference.density import FlatModel, Programs
from bayesunmix.models.abundance import AbundancePrior, abundance_prior
from bayesunmix.models.padding import (
    PARAMETERS,
    held_potential,
    padded,
    padded_latents,
    positions,
    size_for,
    without_pixels,
)
from bayesunmix.models.statements import Statements
from bayesunmix.models.thickness import VALID, ThicknessEffect
from bayesunmix.models.unmixing import (
    Latents,
    UnmixingData,
    latent_shapes,
    spectra,
    unmixing_model,
)

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Run operation by operation, this would compile each operation by itself.
_compiled_spectra = Program(spectra)
# Padded shapes whose programs are kept: a search's and a fit's for some numbers of phases.
MOST_PROGRAMS = 16

# A phase with less than this share of the largest mass per count is no film where it is alone: a support, or a hole.
HARDLY_ANY = 0.03


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Binned counts and what was declared, as arrays.

    Attributes
    ----------
    counts : (block, energy) float32
    forward : ForwardModel
    phases : tuple of Phase
    overlap : Overlap
        Which phases may share a block.
    mean_composition : (element,)
        Atom fractions of the whole map.
    thickness : PixelThickness
        Of the same blocks.
    tile : (block,) int
        Part of the map that each block lies in.
    known : (block,) int, optional
        Phase that a block is declared to hold alone, -1 where none is.
    alternatives : tuple of Overlap
        Freer ones than `overlap` that held-out counts judge, and with `open_overlap` may choose.
    open_overlap : bool
    widths : Priors
        Of the model's priors.
    references : tuple of ReferenceComposition
        What spectra of phases alone say.
    given : GivenNames
        What the names of the phases stand for.
    """

    counts: Float32Array
    forward: ForwardModel
    phases: tuple[Phase, ...]
    overlap: Overlap
    mean_composition: FloatArray
    thickness: PixelThickness
    tile: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64] | None = None
    alternatives: tuple[Overlap, ...] = ()
    open_overlap: bool = False
    widths: Priors = DEFAULT_PRIORS
    references: tuple[ReferenceComposition, ...] = ()
    given: GivenNames = NO_NAMES

    @classmethod
    def of(cls, setup: Setup) -> Blocks:
        """Collect what the model needs of a prepared run."""
        return cls(
            counts=setup.blocks.counts.astype(np.float32),
            forward=setup.forward,
            phases=setup.phases,
            overlap=setup.overlap,
            tile=block_tiles(setup),
            known=known_blocks(setup),
            alternatives=setup.alternatives,
            open_overlap=setup.max_overlap == "auto",
            mean_composition=setup.mean_composition,
            thickness=setup.thickness,
            widths=setup.widths,
            references=setup.references,
            given=setup.given,
        )

    @property
    def absorbing(self) -> FloatArray:
        """First guess of the compositions that absorb, (phase, element): the mean of the map, in supports nothing."""
        return np.where(self.supports[:, None], 0.0, self.mean_composition)

    def every(self, step: int) -> Blocks:
        """One block of so many in a row, evenly spread over the map.

        Which one is drawn: every so many-th block may lie in one column of the map.
        """
        first = np.arange(0, len(self.counts), step)
        drawn = first + np.random.default_rng(0).integers(0, step, len(first))
        chosen = np.minimum(drawn, len(self.counts) - 1)
        part = replace(self.thickness, blocks=self.thickness.blocks[chosen])
        counts = np.ascontiguousarray(self.counts[chosen])
        known = None if self.known is None else self.known[chosen]
        return replace(self, counts=counts, thickness=part, tile=self.tile[chosen], known=known)

    def freer(self) -> Blocks:
        """Return the same where the next alternative is what may share a block."""
        return replace(self, overlap=self.alternatives[0], alternatives=self.alternatives[1:])

    def effect(
        self, mass_per_count: FloatArray | None = None, shares: FloatArray | None = None
    ) -> ThicknessEffect:
        """How thickness acts on spectra.

        Parameters
        ----------
        mass_per_count : (phase,), optional
            Mass that a count of each phase stands for, in any unit; by default alike, and none in supports.
        shares : (block, phase), optional
            Mean abundances of the blocks; even by default.
        """
        thickness = self.thickness
        mass = np.where(self.supports, 0.0, 1.0) if mass_per_count is None else mass_per_count
        # The declared thickness is that of the sample, not of the bare support or the hole beside it.
        sample = mass > HARDLY_ANY * mass.max()
        mixed, present = (
            np.full(len(thickness.blocks), each.mean()) if shares is None else shares @ each
            for each in (mass, sample.astype(float))
        )
        normal = float(ratio_of((thickness.blocks * mixed).sum(), present.sum()))
        sd = float(np.hypot(self.forward.film.relative_sd, self.widths.counts_as_thickness_sd))
        # A phase without atoms has no mass; none has more than the expansion bears.
        relative = np.minimum(ratio_of(mass, normal), VALID[1])
        return ThicknessEffect(thickness.absorption_slope, thickness.stray_share, relative, sd)

    @property
    def typical_counts(self) -> float:
        """Mean counts of a block."""
        return float(self.counts.sum(dtype=np.float64) / max(len(self.counts), 1))

    @property
    def matrix(self) -> npt.NDArray[np.bool_]:
        """Phases declared to have pure regions, shape (phase,)."""
        return np.array([phase.matrix for phase in self.phases])

    @property
    def pure(self) -> npt.NDArray[np.bool_]:
        """Phases declared to be pure somewhere, a matrix or those with a region, shape (phase,)."""
        return np.array([phase.matrix or phase.region is not None for phase in self.phases])

    @property
    def alike(self) -> npt.NDArray[np.bool_]:
        """Which phases were declared alike, (phase, phase)."""
        return alike_declared(self.phases)

    @property
    def names(self) -> list[str]:
        """Names of the phases."""
        return [phase.name for phase in self.phases]

    @property
    def supports(self) -> npt.NDArray[np.bool_]:
        """Phases declared to hold no element of the sample, shape (phase,)."""
        return supports_of(self.phases)

    @property
    def hosts(self) -> npt.NDArray[np.bool_]:
        """Phases one of which every block of several phases holds, shape (phase,); none where any may meet."""
        return self.overlap.hosts(self.phases)

    @property
    def allowed(self) -> npt.NDArray[np.bool_]:
        """False where an element is declared absent, or the phase a support, shape (phase, element)."""
        elements = self.forward.elements
        present = [[element not in phase.absent for element in elements] for phase in self.phases]
        return np.array(present) & ~self.supports[:, None]

    def abundance_prior(self, points: FloatArray, endmembers: FloatArray) -> AbundancePrior:
        """Prior of the weights of some support points (point, phase) with endmembers (phase, energy) there."""
        counts, embedding = self.typical_counts, hosts(self.phases)
        return abundance_prior(points, endmembers, counts, self.matrix, self.widths, embedding)

    def statements(self) -> Statements:
        """Soft statements on the compositions of the phases."""
        forward = self.forward
        return statements_on(
            self.phases,
            forward.elements,
            self.mean_composition,
            forward.calibration_sd,
            self.widths,
            self.references,
        )


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a kind of endmembers is fitted to.

    Attributes
    ----------
    setup : Setup
        The prepared run.
    blocks : Blocks
        Its binned counts and what was declared, as arrays.
    n_starts : int
        Starting points, at least.
    seed : int
        Of the search.
    """

    setup: Setup
    blocks: Blocks
    n_starts: int
    seed: int


def flat_model(data: UnmixingData) -> FlatModel:
    """Flat view of the unmixing model for these data; data that are padded to the same shapes share its programs."""
    leaves, structure = jax.tree.flatten(padded(without_pixels(data)))
    programs = _programs(structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
    shapes = latent_shapes(data)
    own = positions(shapes, programs.shapes)
    capacity = size_for(len(own), PARAMETERS)
    slots = np.full(capacity, programs.size, np.int32)
    slots[: len(own)] = own
    return FlatModel(
        programs=programs,
        shapes=shapes,
        pad=padded,
        slots=slots,
        constant=held_potential(shapes, programs.shapes),
        without_pixels=without_pixels,
    )


@lru_cache(maxsize=MOST_PROGRAMS)
def _programs(
    structure: jax.tree_util.PyTreeDef, arrays: tuple[tuple[tuple[int, ...], np.dtype[np.generic]], ...]
) -> Programs:
    leaves = [jax.ShapeDtypeStruct(*array) for array in arrays]  # type: ignore[no-untyped-call]
    data = jax.tree.unflatten(structure, leaves)
    return Programs(
        unmixing_model, data, {name: np.ones(shape) for name, shape in latent_shapes(data).items()}
    )


def spectra_at(data: UnmixingData, latents: Latents) -> FloatArray:
    """Endmember spectra at some latents, unit sum, shape (phase, energy)."""
    light = padded(without_pixels(data))
    found = np.asarray(_compiled_spectra(light, padded_latents(latents, latent_shapes(light))))
    return found[:, : data.basis.family_templates.shape[2]]


def weights_at(data: UnmixingData, latents: Latents) -> FloatArray:
    """Weights of every phase and component at some latents, zeros where declared absent, (phase, component)."""
    weights = np.zeros(data.basis.allowed.shape)
    weights[data.free[:, 0], data.free[:, 1]] = data.scale * latents["line_units"]
    return weights


def log_ratios_at(data: UnmixingData, latents: Latents) -> FloatArray:
    """Log family ratios at some latents, 0 for main families, shape (family,)."""
    ratios = np.zeros(data.basis.ratio_sd.shape)
    ratios[data.ratio_family] = data.basis.ratio_sd[data.ratio_family] * latents["family_log_ratio"]
    return ratios


def latents_at(data: UnmixingData, units: FloatArray, weights: FloatArray) -> Latents:
    """Latents at given line units and support point weights, everything else at its prior mean."""
    at_mean = {name: np.zeros(shape) for name, shape in latent_shapes(data).items()}
    return {**at_mean, "line_units": units, "abundance_xi": log_odds_at(data.prior, weights)}


def log_odds_at(prior: AbundancePrior, weights: FloatArray) -> FloatArray:
    """Standardised log-odds xi that nearly give these weights; a tenth of the mass is even, as zeros have no log."""
    even = 0.9 * shares_of(weights) + 0.1 / len(weights)
    log_odds = np.log(even)
    return np.linalg.solve(prior.factor, log_odds - log_odds.mean() - prior.mean)


def fisher_information(
    templates: FloatArray,
    free: npt.NDArray[np.int64],
    points: FloatArray,
    counts: FloatArray,
    spectra_: FloatArray,
) -> FloatArray:
    """Fisher information of the free weights if every block's abundance were known, shape (free, free).

    Parameters
    ----------
    counts : (support_point,)
        Counts of the blocks at each support point.
    """
    held = counts > 1.0
    weighted = points[held] * counts[held, None]
    inverse = 1.0 / (points[held] @ spectra_)
    rows = [np.flatnonzero(free[:, 0] == phase) for phase in range(len(templates))]
    own = [templates[phase, free[row, 1]] for phase, row in enumerate(rows)]
    information = np.zeros((len(free), len(free)))
    for first in range(len(templates)):
        for second in range(first + 1):
            shared = (weighted[:, first] * points[held, second]) @ inverse
            part = (own[first] * shared) @ own[second].T
            information[np.ix_(rows[first], rows[second])] = part
            information[np.ix_(rows[second], rows[first])] = part.T
    return information


def fractions_at(data: UnmixingData, latents: Latents) -> FloatArray:
    """Atom fractions at some latents, with nominal calibration factors, shape (phase, element)."""
    return nominal_fractions(weights_at(data, latents), data.yields)


def alike_declared(phases: Sequence[Phase]) -> npt.NDArray[np.bool_]:
    """Say of which phases the same was declared but for the name, (phase, phase)."""
    return np.array([[first.declared_as(second) for second in phases] for first in phases])


def nominal_fractions(weights: FloatArray, yields: FloatArray) -> FloatArray:
    """Atom fractions (..., phase, element) of weights (..., phase, component), with nominal calibration factors.

    Zeros for a phase without atoms.
    """
    return shares_of(weights[..., : yields.shape[1]] / yields)


def mass_per_count(data: UnmixingData, latents: Latents, forward: ForwardModel) -> FloatArray:
    """Mass that a count of each phase stands for at some latents, in any common unit, shape (phase,)."""
    weights = weights_at(data, latents)
    ratio = data.basis.family_ratio * np.exp(log_ratios_at(data, latents))
    lines = (weights[:, data.basis.family_owner] * ratio).sum(axis=1)
    atoms = weights[:, : data.yields.shape[1]] / data.yields
    return np.asarray(atoms @ forward.mass_per_mole / (lines + weights[:, -1]))
