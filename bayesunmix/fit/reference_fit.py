"""What a spectrum of a phase alone says of its composition: amounts by nominal line strengths, and their errors.

The spectrum is one of a map of a single pixel and a single phase, whose response, line ratios and continuum have been
fitted already (`bayesunmix.xray.refinement`). Around that,

    y_c ~ Poisson( sum_i w_i sum_{f of i} r_f exp(rho_f) ( phi_fc + sum_m x_m d_mfc ) + sum_b v_b q_bc ),    w, v >= 0

with the families' ratios rho and the line shapes x open as in the model of the map (`bayesunmix.models.endmember`,
`bayesunmix.models.response`), is maximised by Fisher scoring. The information there, of all parameters together, gives
the covariance of the elements' counts w, wider by the deviance per degree of freedom where the model does not fit. What
a count would be below zero, were it free, is kept: with its error it says how little of the element there can be.

Atoms are a_e = w_e / y_e with the nominal yields y of the elements' main families. The map's are read alike, so that an
error of a line strength, common to both, moves both alike and is no difference. What is left between them are errors of

    counting          of the spectrum
    thickness         of both films, each with its prior, times the slope of log yield by log thickness
    absorption        by coefficients that are wrong for both, as far as the films' slopes differ
    line strengths    of elements of which map and spectrum show no main family in common
    tolerance         by which the phase may differ, t max(x_e, 0.1)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.core.shares import shares_of
from bayesunmix.forward.line_shapes import line_shapes
from bayesunmix.forward.spectra import ForwardModel
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.response import ResponseUncertainty
from bayesunmix.xray.refinement import Refinement
from bayesunmix.xray.scoring import LEAST_MEAN, climb, nonnegative_minimum, poisson_deviance, scoring_step

FloatArray = npt.NDArray[np.float64]

# Elements of less than this vary as if they had so much: a trace may be there or not from one grain to the next.
MINOR = 0.1
MOST_STEPS, TOLERANCE, LENGTHS = 60, 1e-3, (1.0, 0.5, 0.25, 0.1, 0.03, 0.01)
# Elements are there together where their sum is so many standard deviations above zero.
SHOWN_SDS = 4.0
# Of the information, relative: what the spectrum says nothing of must not end the inversion.
RIDGE = 1e-9
# Counts by which main elements are known to a few at% (docs/reference_spectra.md).
ENOUGH = 3000
# Absorption is that of the composition found, which it changes little: so many rounds settle both.
ROUNDS = 3


@dataclass(frozen=True, kw_only=True)
class ReferenceComposition:
    """What a spectrum of a phase says of its composition, with nominal line strengths.

    Attributes
    ----------
    phase : str
    elements : tuple of str
        Those of the sample that have lines in the spectrum.
    atom_fractions : (element,)
        Among these; below zero, within its error, where an element is not there.
    counting : (element, element)
        Covariance of the amounts by counting alone, before they are made to add up to 1.
    covariance : (element, element)
        ... with everything by which the phase in the map may differ.
    counts : int
        Of the spectrum in the fitted energies.
    deviance_per_dof : float
        1 where the spectrum fits.
    read_hash : str
        Of the spectrum and of what is known of its measurement, as it was read.
    """

    phase: str
    elements: tuple[str, ...]
    atom_fractions: FloatArray
    counting: FloatArray
    covariance: FloatArray
    counts: int
    deviance_per_dof: float
    read_hash: str = ""

    def tells(self, kept: npt.NDArray[np.bool_]) -> bool:
        """Whether the spectrum shows some of these elements at all, beyond doubt."""
        total = float(self.atom_fractions[kept].sum())
        return total > SHOWN_SDS * float(np.sqrt(self.counting[np.ix_(kept, kept)].sum()))

    def among(self, kept: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Return the shares of elements that it `tells` of, (element,), in their sum, and their covariance."""
        amounts = self.atom_fractions[kept]
        total = float(amounts.sum())
        shares = amounts / total
        return shares, closed(self.covariance[np.ix_(kept, kept)], shares) / total**2

    @property
    def sd(self) -> FloatArray:
        """Of the atom fractions, by everything, (element,)."""
        return np.asarray(np.sqrt(np.diag(closed(self.covariance, self.atom_fractions))))

    @property
    def counting_sd(self) -> FloatArray:
        """Of the atom fractions, by counting alone, (element,)."""
        return np.asarray(np.sqrt(np.diag(closed(self.counting, self.atom_fractions))))


def closed(covariance: FloatArray, shares: FloatArray) -> FloatArray:
    """Covariance of amounts (element, element) once they are made to add up to 1: dx = (1 - x 1^T) da."""
    turn = np.eye(len(shares)) - shares[:, None]
    return np.asarray(turn @ covariance @ turn.T)


def reference_composition(
    *,
    phase: str,
    counts: FloatArray,
    forward: ForwardModel,
    refined: Refinement,
    start: FloatArray,
    of_map: ForwardModel,
    tolerance: float,
) -> ReferenceComposition:
    """Fit the spectrum of a phase.

    Parameters
    ----------
    phase
        Its name.
    counts : (energy,)
        In the bins of `forward`.
    forward, refined
        Physics of the spectrum, with the elements that it can show, and what its channels say about the response.
    start : (element,)
        Composition that absorbs at first.
    of_map
        Physics of the map.
    tolerance
        By how much the phase may differ.

    Raises
    ------
    InputError
        If it shows no element of the sample.
    """
    fractions = np.maximum(start, 0.0)
    for _ in range(ROUNDS):
        amounts, counting, misfit = _amounts(counts, forward, refined, fractions)
        fractions = shares_of(np.maximum(amounts, 0.0))
    there = np.maximum(amounts, 0.0)
    if not there.any():
        total = int(counts.sum())
        got = f"shows none with {total} {'count' if total == 1 else 'counts'} in the fitted energies"
        remedy = f"Some {ENOUGH} counts say what a phase is made of: sum more pixels, or leave it out."
        raise InputError(f"phases.{phase}.reference", "show an element of `sample.elements`", got, remedy)
    # Of a few counts more than half may seem to be below zero.
    amounts = amounts if amounts.sum() > 0.5 * there.sum() else there
    found, counting = amounts / amounts.sum(), counting / amounts.sum() ** 2
    relative = _relative_covariance(forward, of_map, fractions)
    varied = np.diag((tolerance * np.maximum(found, MINOR)) ** 2)
    return ReferenceComposition(
        phase=phase,
        elements=forward.elements,
        atom_fractions=found,
        counting=counting,
        covariance=counting + relative * np.outer(fractions, fractions) + varied,
        counts=int(counts.sum()),
        deviance_per_dof=misfit,
    )


def _amounts(
    counts: FloatArray, forward: ForwardModel, refined: Refinement, absorbing: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Return atoms (element,) in counts per yield where a composition absorbs, their covariance, and the misfit."""
    allowed = np.ones((1, len(forward.elements)), bool)
    basis, yields = forward.basis(absorbing[None], allowed)
    spectrum = _Spectrum.of(counts, basis, line_shapes(forward, refined, absorbing))
    weights, covariance, misfit = spectrum.fitted(len(forward.elements))
    return weights / yields[0], covariance / np.outer(yields[0], yields[0]), misfit


def _relative_covariance(forward: ForwardModel, of_map: ForwardModel, fractions: FloatArray) -> FloatArray:
    """Covariance of the log amounts of map and spectrum by what is not common to both, (element, element)."""
    places = [of_map.elements.index(element) for element in forward.elements]
    everywhere = np.zeros(len(of_map.elements))
    everywhere[places] = fractions
    own, theirs = (
        forward.absorber_slopes(fractions[None])[0],
        of_map.absorber_slopes(everywhere[None])[0, places],
    )
    found = np.zeros((len(places), len(places)))
    for slopes, film in ((own, forward.film), (theirs, of_map.film)):
        along = slopes[..., 0].sum(axis=1)
        found += np.outer(along, along) * film.mass_thickness_sd**2
    absorbers = forward.film.absorbers(forward.elements)
    every = of_map.film.absorbers(of_map.elements)
    differ = own[..., 1] - theirs[:, [every.index(name) for name in absorbers], 1]
    found += differ @ differ.T * of_map.film.absorption_sd**2
    mains = [_mains(one) for one in (forward, of_map)]
    sds = forward.calibration_sd, of_map.calibration_sd[places]
    other = np.array([mains[0][element] != mains[1][element] for element in forward.elements])
    return np.asarray(found + np.diag(np.where(other, sds[0] ** 2 + sds[1] ** 2, 0.0)))


def _mains(forward: ForwardModel) -> dict[str, str]:
    """Return the main family of each element of the sample."""
    return {one.element: one.family for one in forward.families if one.main and not one.stray}


@dataclass(frozen=True, kw_only=True)
class _Spectrum:
    """Counts (energy,), and what they are made of: see the module."""

    counts: FloatArray
    templates: FloatArray
    ratio: FloatArray
    owner: npt.NDArray[np.int64]
    n_components: int
    free_ratio: npt.NDArray[np.int64]
    slopes: FloatArray
    mean: FloatArray
    sd: FloatArray
    continuum: FloatArray

    @classmethod
    def of(cls, counts: FloatArray, basis: EndmemberBasis, shapes: ResponseUncertainty) -> _Spectrum:
        """Collect the arrays of one phase."""
        free = np.flatnonzero(basis.ratio_sd > 0.0)
        held = basis.continuum_area[0] > 0.0
        return cls(
            counts=np.asarray(counts, float),
            templates=basis.family_templates[0],
            ratio=basis.family_ratio[0],
            owner=basis.family_owner,
            n_components=basis.allowed.shape[1] - 1,
            free_ratio=free,
            slopes=np.broadcast_to(shapes.slopes, (len(shapes.mean), *basis.family_templates.shape[1:])),
            mean=np.concatenate([np.zeros(len(free)), shapes.mean]),
            sd=np.concatenate([basis.ratio_sd[free], shapes.sd]),
            continuum=basis.continuum_templates[0][held],
        )

    def families(self, smooth: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Ratio of each family to its main one, (family,), and its template, (family, energy)."""
        ratio, number = self.ratio.copy(), len(self.free_ratio)
        ratio[self.free_ratio] *= np.exp(smooth[:number])
        return ratio, self.templates + np.einsum("m,mfc->fc", smooth[number:], self.slopes)

    def design(self, smooth: FloatArray) -> FloatArray:
        """Spectrum of each component and of each piece of the continuum, (column, energy)."""
        ratio, templates = self.families(smooth)
        columns = np.zeros((self.n_components, len(self.counts)))
        np.add.at(columns, self.owner, ratio[:, None] * templates)
        return np.concatenate([columns, self.continuum])

    def derivatives(self, smooth: FloatArray, weights: FloatArray) -> FloatArray:
        """Return the derivatives of the expected counts by ratios and line shapes, (smooth, energy)."""
        ratio, templates = self.families(smooth)
        held = weights[self.owner] * ratio
        by_ratio = (held[:, None] * templates)[self.free_ratio]
        return np.concatenate([by_ratio, np.einsum("f,mfc->mc", held, self.slopes)])

    def objective(self, smooth: FloatArray, weights: FloatArray) -> float:
        """Half the deviance plus half the squared prior distances."""
        prior = float((((smooth - self.mean) / self.sd) ** 2).sum())
        return 0.5 * poisson_deviance(self.counts, weights @ self.design(smooth)) + 0.5 * prior

    def target(self, smooth: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Where the quadratic model around a place is least."""
        design, slopes, root = self._scaled(smooth, weights)
        return scoring_step(
            design,
            slopes,
            self.counts / root,
            smooth,
            information=slopes @ slopes.T + np.diag(self.sd**-2.0),
            pull=(self.mean - smooth) / self.sd**2,
            lowest=np.zeros(0),
            highest=np.zeros(0),
        )

    def _scaled(self, smooth: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Columns and slopes over the root of the expected counts, and that root."""
        design = self.design(smooth)
        root = np.sqrt(np.maximum(weights @ design, LEAST_MEAN))
        return design / root, self.derivatives(smooth, weights) / root, root

    def maximum(self) -> tuple[FloatArray, FloatArray]:
        """Return ratios and line shapes, and the weights, where the spectrum is most probable."""
        smooth = np.zeros(len(self.mean))
        root = np.sqrt(np.maximum(self.counts, 1.0))
        near = self.design(smooth) / root
        weights = nonnegative_minimum(near @ near.T, near @ (self.counts / root))
        place, _ = climb(
            self.objective,
            self.target,
            (smooth, weights),
            most_steps=MOST_STEPS,
            tolerance=TOLERANCE,
            lengths=LENGTHS,
        )
        return place[0], place[1]

    def fitted(self, n_elements: int) -> tuple[FloatArray, FloatArray, float]:
        """Return the counts of the elements, their covariance, and the deviance per degree of freedom.

        A count at its bound is moved to where it would be without one, all else going with it.
        """
        smooth, weights = self.maximum()
        columns, slopes, root = self._scaled(smooth, weights)
        every = np.concatenate([columns, slopes])
        precision = every @ every.T + np.diag(np.concatenate([np.zeros(len(columns)), self.sd**-2.0]))
        unit = 1.0 / np.sqrt(np.maximum(np.diag(precision), 1e-300))
        scaled = precision * np.outer(unit, unit) + RIDGE * np.eye(len(unit))
        covariance = (np.linalg.inv(scaled) * np.outer(unit, unit))[:, :n_elements]
        gradient = columns[:n_elements] @ (self.counts / root - root)
        pushed = np.where(weights[:n_elements] <= 0.0, gradient, 0.0)
        dof = max(len(self.counts) - int((weights > 0.0).sum()) - len(smooth), 1)
        misfit = poisson_deviance(self.counts, root**2) / dof
        own = covariance[:n_elements]
        # Where nothing was counted, one count may have been missed.
        return weights[:n_elements] + own @ pushed, own * max(misfit, 1.0) + np.eye(n_elements), misfit
