"""Posterior draws that hold what the map leaves open: rotations of endmembers and abundances that fit as well.

The prior of the abundances prefers the smallest simplex that holds the map, and the flat prior of the weights the
largest: neither is knowledge of the sample, and the draws of the model scatter about the one point where the two meet.
Here every draw is rotated by a matrix from a prior that is stated (`bayesunmix.inference.feasible`), as it gets
calibration factors from theirs. Where declarations and counts pin the phases nothing is rotated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.config.inference import InferenceConfig
from bayesunmix.core.shares import NOTHING, ratio_of, shares_of
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.endmember_model import EndmemberModel
from bayesunmix.fit.model_data import Blocks, nominal_fractions, spectra_at
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.starts import component_templates
from bayesunmix.inference.feasible import PhaseWeights, open_directions
from bayesunmix.inference.occupied_simplex import OccupiedSimplex
from bayesunmix.inference.rotation_draws import RotationPrior, draw_rotations
from bayesunmix.models.abundance import filled_faces, simplex_support_points
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.statements import statements_log_density
from bayesunmix.models.thickness import answered, counted
from bayesunmix.models.unmixing import UnmixingData, thickness_parameters

FloatArray = npt.NDArray[np.float64]

# An element that is exactly absent gets so many standard deviations of its amount: none, but for its logarithm.
LEAST_SDS = 0.01
# Standard deviations of a block between points that are free to move, where they begin.
APART = 2.0
# Rotations that the draws are rotated by, picked by their weights.
CANDIDATES = 256


@dataclass(frozen=True, kw_only=True)
class Rotations:
    """Rotations of the draws.

    Attributes
    ----------
    matrices : (chain, draw, phase, phase)
        M of each draw: rows sum to 1.
    outwards, inwards : (phase, phase)
        Largest share of the second phase in the counts of the first that can be taken out of it, and amount of it that
        it can gain for one nat; zeros where that is no more than the draws hold anyway.
    prior : RotationPrior
    effective : float
        Rotations that all candidates are worth, by their weights.
    """

    matrices: FloatArray
    outwards: FloatArray
    inwards: FloatArray
    prior: RotationPrior
    effective: float

    @property
    def identical(self) -> npt.NDArray[np.bool_]:
        """Which rows leave a phase as it is, (chain, draw, phase)."""
        return np.asarray((self.matrices == np.eye(len(self.outwards))).all(axis=-1))

    @property
    def rotated(self) -> npt.NDArray[np.bool_]:
        """Which phases some draw rotates, (phase,)."""
        return np.asarray(~self.identical.all(axis=(0, 1)))

    def without(self, draws: npt.NDArray[np.bool_]) -> Rotations:
        """Return the same where some draws (chain, draw) are not rotated."""
        return replace(
            self, matrices=np.where(draws[..., None, None], np.eye(len(self.outwards)), self.matrices)
        )

    def chosen(self, draws: npt.NDArray[np.int64]) -> FloatArray:
        """Matrices (draw, phase, phase) of some draws, counted through all chains."""
        return self.matrices.reshape(-1, *self.outwards.shape)[draws]


def rotates(model: EndmemberModel[Any], inference: InferenceConfig) -> bool:
    """Whether draws are rotated by what a map leaves open, if it leaves something."""
    return model.line_density and inference.rotations and inference.method != "map"


def find_rotations(
    blocks: Blocks, fitted: FittedPosterior, draws: Draws, own: Draws, prior: RotationPrior, seed: int
) -> Rotations | None:
    """Draw the rotations that a map leaves open; None where it leaves none.

    Parameters
    ----------
    blocks : Blocks
        With the phases that turned out to be supports declared so.
    fitted : FittedPosterior
    draws : Draws
        Of the posterior at the mode that was found, as they are reported.
    own : Draws
        The model's own: where those reported are wider, the likelihood is too sure.
    prior : RotationPrior
    seed : int
    """
    supports = blocks.supports
    if (~supports).sum() < 2:
        return None
    with single_thread():
        simplex, weights = _occupied(blocks, fitted), _phase_weights(blocks, fitted.data, draws, own)
        found = open_directions(simplex, weights, pure=blocks.pure, closed=supports)
        if not found.any:
            return None
        generator = np.random.default_rng([seed, 61])
        candidates, odds = draw_rotations(found, prior, CANDIDATES, generator)
    number = draws.total.shape[:2]
    chosen = generator.choice(len(candidates), number, p=odds)
    return Rotations(
        matrices=candidates[chosen],
        outwards=np.where(found.opens_out, found.outwards, 0.0),
        inwards=np.where(found.opens_in, found.inwards, 0.0),
        prior=prior,
        effective=float(1.0 / (odds**2).sum()),
    )


def rotated(draws: Draws, rotations: Rotations, basis: EndmemberBasis) -> Draws:
    """Rotate the endmembers of every draw; a phase that stays is left as it is.

    Parameters
    ----------
    draws : Draws
    rotations : Rotations
    basis : EndmemberBasis
        Of a declared absence an amount that is within its error of zero is taken for none.
    """
    allowed = np.asarray(basis.allowed)
    stays = rotations.identical[..., None]
    total = draws.total[..., None]

    def turned(values: FloatArray) -> FloatArray:
        # What a declaration keeps at zero does not vary, and stays there.
        least = LEAST_SDS * values.std(axis=(0, 1))
        return np.asarray(np.maximum(rotations.matrices @ values, least))

    families = turned(draws.family_counts / total) * allowed[:, np.asarray(basis.family_owner)]
    continuum, weights = turned(draws.continuum / total), turned(draws.component_shares) * allowed
    # What was cut at zero is missing from the sum.
    left = (families.sum(axis=-1) + continuum.sum(axis=-1))[..., None]
    spectra = shares_of(np.maximum(turned(draws.spectra), NOTHING))
    return replace(
        draws,
        weights=np.where(stays, draws.weights, weights / left),
        family_counts=np.where(stays, draws.family_counts, families / left),
        continuum=np.where(stays, draws.continuum, continuum / left),
        spectra=np.where(stays, draws.spectra, spectra),
    )


def _occupied(blocks: Blocks, fitted: FittedPosterior) -> OccupiedSimplex:
    """Place the blocks in the simplex of the best mode's endmembers."""
    data = fitted.data
    latents = fitted.model.constrain(fitted.estimate.z)
    endmembers, parameters = spectra_at(data, latents), thickness_parameters(data, latents)
    effect = data.effect

    def answers(mixtures: FloatArray, added: FloatArray | None) -> FloatArray:
        mixed = mixtures @ endmembers
        mixed = shares_of(np.maximum(mixed if added is None else mixed + added, NOTHING))
        return np.asarray(answered(mixed, mixtures, effect, *map(float, parameters)))

    counts = counted(blocks.counts, blocks.thickness.blocks, effect)
    few = blocks.typical_counts / APART**2
    points = simplex_support_points(endmembers, few, max_overlap=2)
    faces = filled_faces(endmembers, few)
    return OccupiedSimplex.of(counts, np.concatenate([points, faces]), answers, endmembers.shape[1])


def _phase_weights(blocks: Blocks, data: UnmixingData, draws: Draws, own: Draws) -> PhaseWeights:
    """Collect what the phases are made of by the draws."""
    shares = draws.component_shares
    yields, statements = np.asarray(data.yields), blocks.statements()

    def implausible(weights: FloatArray) -> float:
        return -float(statements_log_density(statements, nominal_fractions(weights, yields)))

    n_components, n_elements = shares.shape[-1], yields.shape[1]
    sd, model_sd = shares.std(axis=(0, 1)), own.component_shares.std(axis=(0, 1))
    return PhaseWeights(
        mean=shares.mean(axis=(0, 1)),
        sd=sd,
        allowed=np.asarray(data.basis.allowed),
        judged=np.arange(n_components) < n_elements,
        templates=shares_of(component_templates(data.basis)),
        implausible=implausible,
        excess=np.maximum(ratio_of(sd, model_sd), 1.0) ** 2,
    )
