"""Energy axis and line width from the map's own sum spectrum.

Model of the counts of channel c, with the response theta = (gain, offset, noise, fano):

    y_c ~ Poisson( sum_j w_j phi_jc(theta) ),   w >= 0,

one column phi per line family of each element (sample and stray alike, all free) and one per hat of the
continuum. The penalised log-likelihood, with Gaussian priors on theta, is maximised by Fisher scoring on
(w, theta) together: each step is a non-negative least-squares problem in w after theta has been eliminated.
A grid of gains and offsets gives the start, so an axis that is off by 30 eV and 0.5 % is found.

Priors (mean, standard deviation): gain 1, 0.005; offset 0, 30 eV; the width parameters are the weakly
determined ones, noise as the nominal resolution gives it with 15 eV, and the Fano factor 0.115 with 0.010,
which covers the published values of silicon detectors (Mazziotta 2008, doi:10.1016/j.nima.2007.10.043) and
some broadening by incomplete charge collection.

Standard errors come from the Fisher information of the free parameters, and are widened by the square root
of the deviance per degree of freedom where the model does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.core.shares import shares_of
from bayesunmix.xray.continuum import DEFAULT_HATS, continuum_basis
from bayesunmix.xray.detector import Detector
from bayesunmix.xray.lines import LineTable
from bayesunmix.xray.response import Response
from bayesunmix.xray.scoring import LEAST_MEAN, climb, nonnegative_minimum, poisson_deviance, scoring_step

PARAMETERS = ("gain", "offset_keV", "noise_eV", "fano")
LOWEST = np.array([0.95, -0.2, 5.0, 0.02])
HIGHEST = np.array([1.05, 0.2, 400.0, 0.5])
# Steps of the numerical derivatives: a thousandth of a channel-sized change.
DERIVATIVE_STEP = np.array([1e-6, 1e-5, 1e-2, 1e-5])
GRID_GAIN = np.linspace(-0.006, 0.006, 5)
GRID_OFFSET_KEV = np.linspace(-0.036, 0.036, 7)
MOST_STEPS = 60
TOLERANCE = 1e-3
STEP_LENGTHS = (1.0, 0.5, 0.25, 0.1, 0.03, 0.01)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AxisFit:
    """Fitted response and the decomposition of the sum spectrum.

    Parameters
    ----------
    response
        Fitted response.
    standard_errors
        Its standard errors, keyed like the fields of `Response`.
    covariance
        Covariance of (gain, offset_keV, noise_eV, fano), shape (4, 4).
    components
        Names of the columns: ``Fe_K`` for families, ``continuum_0`` and so on.
    weights
        Counts of each column over an endless axis, shape (component,).
    spectra
        Expected counts of each column, shape (component, energy).
    deviance
        Poisson deviance of the fit.
    degrees_of_freedom
        Channels less free parameters.
    converged
        Whether the steps had become negligible.
    """

    response: Response
    standard_errors: dict[str, float]
    covariance: Array
    components: tuple[str, ...]
    weights: Array
    spectra: Array
    deviance: float
    degrees_of_freedom: int
    converged: bool

    @property
    def expected(self) -> Array:
        """Expected counts per channel, shape (energy,)."""
        return np.asarray(self.spectra.sum(axis=0))

    @property
    def deviance_per_dof(self) -> float:
        """Deviance per degree of freedom; 1 for a model that fits."""
        return self.deviance / self.degrees_of_freedom


class _Prior(NamedTuple):
    """Of the four parameters: their means and standard deviations."""

    mean: Array
    sd: Array


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The columns phi(theta): lines in families, and the continuum, which does not depend on theta."""

    names: tuple[str, ...]
    energy_keV: Array
    areas: Array
    group: npt.NDArray[np.intp]
    families: int
    continuum: Array
    edges: Array = field(repr=False)

    def __call__(self, theta: Array) -> Array:
        """Return the columns, shape (component, energy)."""
        lines = Response.straight(theta).columns(
            self.energy_keV, self.areas, self.group, self.families, self.edges
        )
        return np.concatenate([lines, self.continuum])

    def derivative(self, theta: Array, weights: Array) -> Array:
        """Return the derivative of the expected counts with respect to theta, shape (4, energy)."""
        areas = self.areas * weights[self.group]
        slopes = []
        for step in np.diag(DERIVATIVE_STEP):
            above = Response.straight(theta + step).spectrum(self.energy_keV, areas, self.edges)
            below = Response.straight(theta - step).spectrum(self.energy_keV, areas, self.edges)
            slopes.append((above - below) / (2.0 * step.sum()))
        return np.array(slopes)


def fit_axis(
    counts: npt.ArrayLike,
    channel_edges_keV: npt.ArrayLike,
    table: LineTable,
    elements: Iterable[str],
    stray: Iterable[str] = (),
    *,
    beam_energy_keV: float = 200.0,
    detector: Detector | None = None,
    continuum_hats: int = DEFAULT_HATS,
) -> AxisFit:
    """Fit gain, offset, noise and Fano factor to a sum spectrum.

    Parameters
    ----------
    counts
        Sum spectrum in counts, shape (energy,).
    channel_edges_keV
        Nominal edges of its channels, shape (energy + 1,).
    table
        Lines of the elements.
    elements, stray
        Elements of the sample, and of everything else; their families are free alike.
    beam_energy_keV
        Energy of the electrons, for the continuum.
    detector
        Efficiency, and the nominal width that centres the prior; default the windowless one of 130 eV.
    continuum_hats
        Number of functions of the continuum.

    Raises
    ------
    InputError
        If shapes disagree, counts are negative or empty, or no element has a line on the axis.
    """
    spectrum, edges = _checked(counts, channel_edges_keV)
    detector = Detector.from_resolution() if detector is None else detector
    continuum = continuum_basis(edges, beam_energy_keV, detector.efficiency, continuum_hats)
    columns = _columns(table, dict.fromkeys([*elements, *stray]), edges, detector, continuum)
    nominal = np.array([1.0, 0.0, detector.response.noise_eV, detector.response.fano])
    prior = _Prior(nominal, table.priors.axis_sd)
    theta, weights = _best_on_grid(spectrum, columns, prior)
    theta, weights, converged = _maximise(spectrum, columns, prior, theta, weights)
    return _summarise(
        counts=spectrum, columns=columns, prior=prior, theta=theta, weights=weights, converged=converged
    )


def _checked(counts: npt.ArrayLike, channel_edges_keV: npt.ArrayLike) -> tuple[Array, Array]:
    spectrum = np.asarray(counts, dtype=np.float64)
    edges = np.asarray(channel_edges_keV, dtype=np.float64)
    if spectrum.ndim != 1 or edges.shape != (spectrum.size + 1,):
        got = f"counts have shape {spectrum.shape} and edges {edges.shape}"
        raise InputError("channel_edges_keV", "have one edge more than there are channels", got)
    if not np.all(np.isfinite(spectrum)) or np.any(spectrum < 0.0) or not spectrum.sum() > 0.0:
        raise InputError("counts", "be non-negative and not all zero", "are not")
    return spectrum, edges


def _columns(
    table: LineTable, elements: Iterable[str], edges: Array, detector: Detector, continuum: Array
) -> _Columns:
    """Collect the families with lines on the axis; areas are strength times efficiency, 1 per family."""
    names: list[str] = []
    energies, areas, groups = [], [], []
    for element in elements:
        for family in table.families(element, edges[0], edges[-1]):
            lines = table.lines(element, family)
            energy = np.array([line.energy_keV for line in lines])
            area = np.array([line.strength for line in lines]) * detector.efficiency(energy)
            groups.append(np.full(energy.size, len(names), dtype=np.intp))
            names.append(f"{element}_{family}")
            energies.append(energy)
            areas.append(shares_of(area))
    if not names:
        got = f"none does between {edges[0]:.3g} and {edges[-1]:.3g} keV"
        raise InputError("sample.elements", "have lines on the energy axis", got)
    continuum_names = [f"continuum_{index}" for index in range(len(continuum))]
    return _Columns(
        names=(*names, *continuum_names),
        energy_keV=np.concatenate(energies),
        areas=np.concatenate(areas),
        group=np.concatenate(groups),
        families=len(names),
        continuum=continuum,
        edges=edges,
    )


def _best_on_grid(counts: Array, columns: _Columns, prior: _Prior) -> tuple[Array, Array]:
    """Return the best of a grid of gains and offsets at the nominal width, and the weights there."""
    candidates = []
    for gain in GRID_GAIN:
        for offset in GRID_OFFSET_KEV:
            theta = prior.mean + np.array([gain, offset, 0.0, 0.0])
            phi = columns(theta)
            weights = _weighted_fit(counts, phi, np.maximum(counts, 1.0))
            candidates.append((_objective(counts, weights @ phi, theta, prior), theta, weights))
    _, theta, weights = min(candidates, key=lambda candidate: candidate[0])
    return theta, weights


def _weighted_fit(counts: Array, phi: Array, variance: Array) -> Array:
    """Return non-negative weights that minimise the squared residuals over `variance`."""
    scaled = phi / np.sqrt(variance)
    return nonnegative_minimum(scaled @ scaled.T, scaled @ (counts / np.sqrt(variance)))


def _maximise(
    counts: Array, columns: _Columns, prior: _Prior, theta: Array, weights: Array
) -> tuple[Array, Array, bool]:
    """Climb from a point of the grid; returns theta, the weights and whether the steps had become negligible."""

    def objective(theta: Array, weights: Array) -> float:
        return _objective(counts, weights @ columns(theta), theta, prior)

    def target(theta: Array, weights: Array) -> tuple[Array, Array]:
        phi = columns(theta)
        root = np.sqrt(np.maximum(weights @ phi, LEAST_MEAN))
        slope = columns.derivative(theta, weights) / root
        return scoring_step(
            phi / root,
            slope,
            counts / root,
            theta,
            information=slope @ slope.T + np.diag(prior.sd**-2.0),
            pull=(prior.mean - theta) * prior.sd**-2.0,
            lowest=LOWEST,
            highest=HIGHEST,
        )

    (theta, weights), converged = climb(
        objective, target, (theta, weights), most_steps=MOST_STEPS, tolerance=TOLERANCE, lengths=STEP_LENGTHS
    )
    return theta, weights, converged


def _objective(counts: Array, mean: Array, theta: Array, prior: _Prior) -> float:
    """Return half the Poisson deviance plus half the squared prior distances."""
    return 0.5 * poisson_deviance(counts, mean) + 0.5 * float(np.sum(((theta - prior.mean) / prior.sd) ** 2))


def _summarise(
    counts: Array, columns: _Columns, prior: _Prior, theta: Array, weights: Array, converged: bool
) -> AxisFit:
    """Add standard errors and the figures of merit to the optimum."""
    phi = columns(theta)
    mean = np.maximum(weights @ phi, LEAST_MEAN)
    # A line far outside of the axis may have been given a weight, of which the counts know nothing.
    free = (weights > 0.0) & ((phi**2 / mean).sum(axis=1) > 0.0)
    slope = columns.derivative(theta, weights)
    jacobian = np.vstack([slope, phi[free]]) / np.sqrt(mean)
    information = jacobian @ jacobian.T
    information[:4, :4] += np.diag(prior.sd**-2.0)
    deviance = poisson_deviance(counts, mean)
    dof = max(counts.size - int(free.sum()) - len(PARAMETERS), 1)
    scale = 1.0 / np.sqrt(np.diag(information))
    inverse = np.linalg.pinv(information * np.outer(scale, scale)) * np.outer(scale, scale)
    covariance = inverse[:4, :4] * max(1.0, deviance / dof)
    errors = dict(zip(PARAMETERS, np.sqrt(np.diag(covariance)).tolist(), strict=True))
    return AxisFit(
        response=Response.straight(theta),
        standard_errors=errors,
        covariance=covariance,
        components=columns.names,
        weights=weights,
        spectra=weights[:, None] * phi,
        deviance=deviance,
        degrees_of_freedom=dof,
        converged=converged,
    )
