"""The posterior around its mode as a Gaussian, and what it would be if the abundances were known.

In coordinates y (weights of line families in units of their `scale`, every other parameter as it is) the posterior is
nearly Normal(mode, V) with V = G^-1 (`bayesunmix.inference.laplace`). If the abundance of every block were known, the
weights alone would have the precision

    I_c = sum_j n_j sum_c d_jc d_jc^T / m_jc + prior,     d_jc = sum_k alpha_jk ds_kc/dw,     m_jc = sum_k alpha_jk s_kc

n_j being the counts of the blocks at support point j of the mixture: the complete-data information, of which the
observed one is what the unknown abundances leave (Louis, T. A., J. R. Stat. Soc. B 44 (1982) 226).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from bayesunmix.core.shares import NOTHING
from bayesunmix.fit.model_data import (
    fisher_information,
    log_ratios_at,
    nominal_fractions,
    spectra_at,
    weights_at,
)
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.starts import component_templates
from bayesunmix.inference.laplace import truncated_gaussian
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.statements import Statements, statement_slopes
from bayesunmix.models.unmixing import (
    GAUGE_SD,
    Latents,
    UnmixingData,
    continuum_corrections,
)

FloatArray = npt.NDArray[np.float64]

LINES = "line_units"


@dataclass(frozen=True, kw_only=True)
class LocalPosterior:
    """Gaussian posterior around the mode.

    Attributes
    ----------
    data : UnmixingData
    z : (dim,)
        Mode in the sampler's coordinates.
    places : dict of slice
        Place of each latent in y.
    covariance, precision : (dim, dim)
        V and its inverse, in y.
    mean : (dim,)
        Peak of the quadratic in y.
    weights : (phase, component)
        Weights w at the mode.
    atom_fractions : (phase, element)
        Compositions there, with nominal calibration factors.
    derivatives : (phase, component, energy)
        Derivative of the unit-sum spectrum of each phase with respect to its weights.
    complete : (free, free)
        Precision of the line units if the abundances and all other parameters were known.
    """

    data: UnmixingData
    z: FloatArray
    places: dict[str, slice]
    covariance: FloatArray
    precision: FloatArray
    mean: FloatArray
    weights: FloatArray
    atom_fractions: FloatArray
    derivatives: FloatArray
    complete: FloatArray

    @classmethod
    def of(cls, fitted: FittedPosterior) -> LocalPosterior:
        """Describe the posterior around the mode of a fit."""
        data, estimate, places = fitted.data, fitted.estimate, fitted.model.places
        gaussian = truncated_gaussian(estimate.z, estimate.hessian, places[LINES])
        latents = fitted.model.constrain(estimate.z)
        weights, mixed = weights_at(data, latents), spectra_at(data, latents)
        at_mode = basis_at(data, latents)
        derivatives = _derivatives(at_mode, weights, mixed)
        fractions = nominal_fractions(weights, np.asarray(data.yields))
        complete = _complete(
            data=data,
            latents=latents,
            derivatives=derivatives,
            mixed=mixed,
            weights=weights,
            fractions=fractions,
        )
        precision = np.linalg.inv(gaussian.covariance)
        return cls(
            data=data,
            z=estimate.z,
            places=places,
            covariance=gaussian.covariance,
            precision=0.5 * (precision + precision.T),
            mean=gaussian.mean,
            weights=weights,
            atom_fractions=fractions,
            derivatives=derivatives,
            complete=complete,
        )

    @property
    def lines(self) -> slice:
        """Place of the line units in y."""
        return self.places[LINES]

    def slopes(self) -> FloatArray:
        """Return the derivative of every atom fraction with respect to the line units, shape (phase, element, free)."""
        return (
            composition_slopes(self.data, self.atom_fractions, self.weights, self.data.free) * self.data.scale
        )

    def along(self, statements: Statements) -> FloatArray:
        """Return the derivative of the number of each statement, in its sd, with respect to y, (statement, dim)."""
        vectors = np.zeros((len(statements.key), len(self.z)))
        of_fractions = statement_slopes(statements, self.atom_fractions)
        vectors[:, self.lines] = np.einsum("rke,kef->rf", of_fractions, self.slopes())
        return vectors

    def variance_given(self, slopes: FloatArray, *fixed: str) -> FloatArray:
        """Variance of linear functions of the line units when some latents are held at the mode, shape (...).

        Parameters
        ----------
        slopes : (..., free)
            Derivatives of the functions with respect to the line units.
        *fixed : str
            Latents that are known; none gives the posterior variance. Those that the model lacks are passed over.
        """
        kept = np.ones(len(self.z), bool)
        for name in fixed:
            if name in self.places:
                kept[self.places[name]] = False
        covariance = self.covariance if kept.all() else _inverse(self.precision[np.ix_(kept, kept)])
        first = int(kept[: self.lines.start].sum())
        inner = slice(first, first + slopes.shape[-1])
        return quadratic(slopes, covariance[inner, inner])


def quadratic(slopes: FloatArray, covariance: FloatArray) -> FloatArray:
    """Variances a . V . a of functions with slopes a, shape (...)."""
    return np.asarray(np.einsum("...i,ij,...j->...", slopes, covariance, slopes))


def composition_slopes(
    data: UnmixingData, atom_fractions: FloatArray, weights: FloatArray, places: npt.NDArray[np.int64]
) -> FloatArray:
    """Return the derivative of atom fractions with respect to some weights, shape (phase, element, place).

    dx_ke / dw_ki = (delta_ei - x_ke) / (y_ki sum_l w_kl / y_kl) for an element i, 0 for another component, and 0 in a
    phase without atoms.

    Parameters
    ----------
    places : (place, 2) int
        Phase and component of each weight.
    """
    n_phases, n_elements = atom_fractions.shape
    atoms = (weights[:, :n_elements] / data.yields).sum(axis=1)
    slopes = np.zeros((n_phases, n_elements, len(places)))
    for number, (phase, component) in enumerate(places):
        if component < n_elements and atoms[phase] > NOTHING:
            change = (np.arange(n_elements) == component) - atom_fractions[phase]
            slopes[phase, :, number] = change / (data.yields[phase, component] * atoms[phase])
    return slopes


def basis_at(data: UnmixingData, latents: Latents) -> EndmemberBasis:
    """Take ratios of families, shape of the continuum and templates at some latents for the nominal ones."""
    basis = data.basis
    area = np.log(np.maximum(basis.continuum_area, NOTHING))
    shared, by_phase = continuum_corrections(data.widths, latents)
    return basis._replace(
        family_ratio=basis.family_ratio * np.exp(log_ratios_at(data, latents)),
        continuum_area=softmax(area + shared + by_phase, axis=-1),
        family_templates=basis.family_templates
        + np.einsum("m,mfc->fc", latents["response"], data.response.slopes),
    )


def _derivatives(at_mode: EndmemberBasis, weights: FloatArray, mixed: FloatArray) -> FloatArray:
    """Return ds_k/dw_ki = (phi_ki - s_k sum_c phi_kic) / sum_ic w_ki phi_kic of the unit-sum spectra s."""
    templates = component_templates(at_mode)
    areas = templates.sum(axis=2)
    total = (weights * areas).sum(axis=1)
    return np.asarray((templates - areas[:, :, None] * mixed[:, None, :]) / total[:, None, None])


def _complete(
    data: UnmixingData,
    latents: Latents,
    derivatives: FloatArray,
    mixed: FloatArray,
    weights: FloatArray,
    fractions: FloatArray,
) -> FloatArray:
    """Precision of the line units with everything else known: information of the counts, statements and gauge."""
    prior, free = data.prior, np.asarray(data.free)
    n_energy = mixed.shape[1]
    counts = float(data.pixels.counts[..., :n_energy].sum(dtype=np.float64))
    share = softmax(prior.mean + prior.factor @ np.asarray(latents["abundance_xi"]))
    information = fisher_information(
        derivatives, free, np.asarray(prior.support_points), share * counts, mixed
    )
    # A prior as wide as a phase's whole counts, so that a weight that nothing informs has an inverse.
    information += np.eye(len(free))
    gauge = (free[:, 0] == np.arange(len(weights))[:, None]) / weights.sum(axis=1, keepdims=True)
    information += gauge.T @ gauge / GAUGE_SD**2
    slopes = composition_slopes(data, fractions, weights, free)
    stated = np.einsum("rke,kef->rf", statement_slopes(data.statements, fractions), slopes)
    information += stated.T @ stated
    return np.asarray(information * np.outer(data.scale, data.scale))


def _inverse(precision: FloatArray) -> FloatArray:
    """Inverse of a precision, symmetric."""
    inverse = np.linalg.inv(precision)
    return np.asarray(0.5 * (inverse + inverse.T))


def known_abundances(local: LocalPosterior, slopes: FloatArray) -> FloatArray:
    """Variance of linear functions of the line units if abundances and all else were known, shape (...)."""
    return quadratic(slopes, _inverse(local.complete))
