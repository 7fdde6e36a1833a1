"""What the map's own sum spectrum says about spectrometer, line ratios, continuum and undeclared elements.

Model of the counts of channel c, theta the response and rho the log ratios of sub-shells inside families:

    y_c ~ Poisson( sum_j w_j sum_g exp(rho_g) phi_gc(theta) + sum_b v_b q_bc ),    w, v >= 0,

one w per line family j, whose lines fall into groups g (K-alpha and K-beta; L1, L2, L3; M1 to M5), and one v per hat of
the continuum q. Absorption in the film, at the map's mean composition, acts on both. It is maximised like the rough
fit of the energy axis that it starts from (`axis_fit`), by Fisher scoring on (w, v, theta, rho) with Gaussian priors:

    bend 0, 4 eV            charge collection tau 0, 0.1 um, R 0.5, 0.15       escape 1, 0.5 of theory
    pile-up 0, 0.5 %: with photons of C, N and O K, which pass below the threshold of the pile-up rejector and often
            below the axis, one share each, adding 1, 0.05 of their energy since their pulses begin earlier or later;
            and with all other lines in proportion to their counts, one rate
    line ratios 0, with the standard deviations of `bayesunmix.xray.priors`
    shift of K-beta where valence electrons emit it 0, 5 eV: oxides and elements differ by that much (Baun, W. L.,
            Fischer, D. W., The effect of valence and coordination on K series diagram and nondiagram lines of
            magnesium, aluminum, and silicon, Adv. X-Ray Anal. 8 (1964))
    bend of the continuum's correction 0, 0.2 of its mean
    continuum of thick parts of an element, with the element's own absorption edge in it: flat, not negative, where the
            edge stands out

The ratios are shape, not strength: a family's detected total is kept. Stray lines come from thick bars and
apertures, which absorb their own radiation, so theirs are wider. Elements that nobody declared are added one by one as
long as the next explains the misfit far better than chance: better a nuisance too many than its counts in a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import ratio_of
from bayesunmix.xray.axis_fit import AxisFit
from bayesunmix.xray.continuum import ContinuumCorrection, ThickPart
from bayesunmix.xray.detector import Detector
from bayesunmix.xray.evidence import ElementEvidence, evidence_for
from bayesunmix.xray.lines import LineTable, line_group
from bayesunmix.xray.response import Response
from bayesunmix.xray.scoring import LEAST_MEAN, Box, Problem, State, poisson_deviance
from bayesunmix.xray.shape_directions import ShapeDirections, shape_directions
from bayesunmix.xray.sources import (
    Column,
    Sources,
    continuum_hats,
    pile_up_partners,
    stiffness_rows,
    thick_columns,
    thick_parts,
)
from bayesunmix.xray.spectrometer import (
    HIGHEST,
    LOWEST,
    N_BEND,
    N_SOFT,
    PRIOR_MEAN,
    RESPONSE_NAMES,
    START,
    STEP,
    response_of,
)
from bayesunmix.xray.undeclared import asked_for, with_undeclared

# Channels are merged up to this share of the narrowest peak's width.
FINE_ENOUGH = 0.3
# Lines off the axis by less than so many widths have a flank on it.
FLANK_FWHM = 1.0
# All but the edge of a thick part's continuum is smooth, and goes with the hats.
LEAST_OWN_CONTINUUM = 1e-4
# The continuum's correction never falls below this share of its largest value: it must stay positive.
LEAST_CORRECTION = 1e-3

# Shares of the charge collected at the surface that the fit starts from.
SURFACES = (0.5, 0.3)

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """The spectrometer and the lines as the sum spectrum shows them.

    Parameters
    ----------
    response
        Position, width, tail, escape and pile-up.
    standard_errors
        Keyed by the names of `RESPONSE_NAMES`, widened where the model does not fit.
    table
        The line table with refined ratios inside families, and the lines of the elements found.
    line_ratios
        Factor on each group's strength relative to its family's strongest, keyed (element, family, group).
    continuum
        Correction of the physical continuum.
    found
        Counts of elements that nobody declared, strongest first.
    evidence
        What speaks for each of these.
    counts
        Counts of each family, seen on the axis and unseen, keyed ``Fe_K``; of some there is only a flank.
    bonded_k_beta_eV
        Shift of the K-beta lines that valence electrons emit; `table` holds it.
    deviance, degrees_of_freedom
        Of the sum spectrum.
    theta, partners
        Response parameters in the order of `RESPONSE_NAMES`, and the families that others pile up with.
    directions
        In which the response and the line ratios are open.
    """

    response: Response
    standard_errors: dict[str, float]
    table: LineTable
    line_ratios: dict[tuple[str, str, str], float]
    continuum: ContinuumCorrection
    found: dict[str, float]
    evidence: dict[str, ElementEvidence]
    counts: dict[str, float]
    bonded_k_beta_eV: float
    deviance: float
    degrees_of_freedom: int
    theta: Array
    partners: tuple[tuple[float, float], ...]
    directions: ShapeDirections

    def response_at(self, theta: Array) -> Response:
        """Response of other parameters, in the order of `RESPONSE_NAMES`."""
        return response_of(theta, self.partners)

    @property
    def shown(self) -> tuple[str, ...]:
        """Elements found that errors of everything else cannot look like."""
        return tuple(element for element in self.found if self.evidence[element].shown)

    @property
    def deviance_per_dof(self) -> float:
        """Deviance per degree of freedom; 1 for a model that fits."""
        return self.deviance / self.degrees_of_freedom


def refine(
    counts: Array,
    channel_edges_keV: Array,
    table: LineTable,
    elements: Iterable[str],
    stray: Iterable[str],
    axis_fit: AxisFit,
    *,
    beam_energy_keV: float,
    detector: Detector,
    transmission: Callable[[Array], Array],
    find_undeclared: bool = True,
) -> Refinement:
    """Fit everything to a sum spectrum.

    Parameters
    ----------
    counts, channel_edges_keV
        Sum spectrum and the edges of its channels, shapes (energy,) and (energy + 1,).
    table
        Lines of the elements.
    elements, stray
        Of the sample, with oxygen where it is seen, and of everything else.
    axis_fit
        Rough fit of the energy axis to the same spectrum: the start.
    beam_energy_keV, detector
        For the continuum and the efficiency.
    transmission
        Share of the photons that leave the film, as a function of energies in keV.
    find_undeclared
        Look for elements that nobody declared.
    """
    counts, edges = merge_channels(counts, channel_edges_keV, axis_fit.response)
    sources = Sources(table=table, detector=detector, transmission=transmission, stray=frozenset(stray))
    widths = FLANK_FWHM * axis_fit.response.fwhm_keV(edges[[0, -1]])
    low, high = float(edges[0] - widths[0]), float(edges[-1] + widths[1])
    columns: list[Column] = [
        (family,)
        for element in dict.fromkeys([*elements, *stray])
        for family in ((element, name) for name in table.families(element, low, high))
    ]
    knots, area, continuum = continuum_hats(counts, edges, beam_energy_keV, sources)
    stiffness = stiffness_rows(area, axis_fit, table.priors.continuum_bend_sd)
    partners = pile_up_partners(axis_fit, sources)
    rough = axis_fit.response
    theta, mean = START.copy(), PRIOR_MEAN.copy()
    theta[:4] = rough.gain, rough.offset_keV, rough.noise_eV, rough.fano
    mean[2:4] = detector.response.noise_eV, detector.response.fano
    box = Box(
        mean=mean, sd=table.priors.spectrometer_sd(N_BEND, N_SOFT), lowest=LOWEST, highest=HIGHEST, step=STEP
    )

    def from_thick(parts: tuple[ThickPart, ...]) -> tuple[Array, Array]:
        return thick_columns(parts, edges, beam_energy_keV, sources)

    def problem(columns: list[Column], sources: Sources, thick: tuple[ThickPart, ...]) -> Problem:
        every = np.concatenate([continuum, from_thick(thick)[1]])
        stiff = np.pad(stiffness, ((0, 0), (0, len(thick))))
        design = sources.columns(columns, every, stiff, edges)
        return Problem(
            counts, design, box, lambda theta: (response_of(theta, partners), 1e-3 * float(theta[-1]))
        )

    thick: tuple[ThickPart, ...] = ()
    fit = problem(columns, sources, thick)
    state = min((fit.maximise(fit.start(start)) for start in _starts(theta)), key=fit.objective)
    parts = thick_parts(axis_fit, sources, edges, beam_energy_keV)
    wanted = asked_for(fit, state, from_thick(parts)[1], LEAST_OWN_CONTINUUM)
    if wanted:
        thick = tuple(parts[index] for index in wanted)
        fit = problem(columns, sources, thick)
        state = fit.maximise(fit.start(state.theta, state.log_ratio))
    # Weak elements show only once strong ones are fitted.
    while find_undeclared:
        declared = {family[0] for column in columns for family in column}
        known = len(sources.found)
        sources = with_undeclared(
            fit=fit,
            state=state,
            sources=sources,
            declared=declared,
            beam_energy_keV=beam_energy_keV,
            edges=edges,
        )
        if len(sources.found) == known:
            break
        columns += [
            tuple((element, name) for name in sources.table.families(element, edges[0], edges[-1]))
            for element in sources.found[known:]
        ]
        fit = problem(columns, sources, thick)
        state = fit.maximise(fit.start(state.theta, state.log_ratio))
    correction = _correction(state.weights[fit.columns.number :], knots, area, thick, from_thick(thick)[0])
    return _summary(
        fit=fit, state=state, sources=sources, columns=columns, partners=partners, correction=correction
    )


def _starts(theta: Array) -> list[Array]:
    """Return starting points that differ in where tails end: lines just above that look like the end of a tail."""
    starts = []
    for surface in SURFACES:
        start = np.clip(theta, LOWEST, HIGHEST)
        start[RESPONSE_NAMES.index("surface_collection")] = surface
        starts.append(start)
    return starts


def merge_channels(counts: Array, edges: Array, response: Response) -> tuple[Array, Array]:
    """Merge channels that are much finer than the narrowest peak: nothing is lost, and the fit is faster.

    Parameters
    ----------
    counts, edges : (energy,), (energy + 1,)
        Spectrum, and the edges of its channels in keV; a few channels at the upper end may be left over.
    response
        Gives the width.
    """
    width = float(edges[1] - edges[0])
    factor = max(1, int(FINE_ENOUGH * float(response.fwhm_keV(max(edges[0], 0.0))) / width))
    kept = len(counts) // factor * factor
    return np.asarray(counts[:kept], float).reshape(-1, factor).sum(axis=1), np.asarray(
        edges[: kept + 1 : factor]
    )


def _summary(
    fit: Problem,
    state: State,
    sources: Sources,
    columns: list[Column],
    partners: tuple[tuple[float, float], ...],
    correction: ContinuumCorrection,
) -> Refinement:
    """Read the result off the optimum, with standard errors from the information of all free parameters."""
    design, slopes = fit.slopes(state)
    mean = np.maximum(state.weights @ design, LEAST_MEAN)
    deviance = poisson_deviance(fit.counts, mean)
    free = state.weights > 0.0
    adjustable = fit.columns.adjustable
    dof = max(fit.counts.size - int(free.sum()) - len(fit.box.mean) - len(adjustable), 1)
    b, information = fit.information(slopes, np.sqrt(mean))
    a = design[free] / np.sqrt(mean)
    scale = 1.0 / np.linalg.norm(a, axis=1)
    a = a * scale[:, None]
    cross = b @ a.T
    marginal = information - cross @ np.linalg.solve(a @ a.T + 1e-9 * np.eye(len(a)), cross.T)
    open_ = _open_directions(fit, state, columns, sources, marginal)
    variance = np.diag(np.linalg.inv(marginal))[: len(RESPONSE_NAMES)] * max(1.0, deviance / dof)
    factors = np.ones(len(fit.columns.owner))
    factors[adjustable] = np.exp(state.log_ratio)
    ratios: dict[tuple[str, str, str], float] = {}
    for number, column in enumerate(columns):
        if column[0][0] not in sources.found:
            lines, _ = sources.lines(column)
            names = list(dict.fromkeys(line_group(line) for line in lines))
            own = factors[fit.columns.owner == number]
            ratios |= {(*column[0], name): float(f) for name, f in zip(names, own, strict=True) if f != 1.0}
    # Other ratios change what a unit of weight holds.
    change = fit.columns.area * (factors - 1.0)[fit.columns.group]
    held = 1.0 + np.bincount(fit.columns.owner[fit.columns.group], change, fit.columns.number)
    weights = (state.weights[: fit.columns.number] * held).tolist()
    names_ = ["+".join(f"{element}_{family}" for element, family in column) for column in columns]
    counts = dict(zip(names_, weights, strict=True))
    undeclared = {
        column[0][0]: w
        for column, w in sorted(zip(columns, weights, strict=True), key=lambda pair: -pair[1])
        if column[0][0] in sources.found and w > 0
    }
    own = {element for column in columns for element, _ in column} - sources.stray - set(sources.found)
    table = sources.table.with_ratios(ratios, sources.detector.efficiency)
    table = table.with_bonding(1e-3 * float(state.theta[-1]), own)
    return Refinement(
        response=response_of(state.theta, partners),
        standard_errors=dict(zip(RESPONSE_NAMES, np.sqrt(np.maximum(variance, 0.0)).tolist(), strict=True)),
        table=table,
        line_ratios=ratios,
        continuum=correction,
        found=undeclared,
        evidence=evidence_for(undeclared, fit, state, columns, sources),
        counts=counts,
        bonded_k_beta_eV=float(state.theta[-1]),
        deviance=deviance,
        degrees_of_freedom=dof,
        theta=state.theta,
        partners=partners,
        directions=open_,
    )


def _correction(
    weights: Array, knots: Array, area: Array, thick: tuple[ThickPart, ...], thick_area: Array
) -> ContinuumCorrection:
    """Correction of the continuum from the weights of hats and thick parts."""
    factor = weights[: len(area)] / area
    # A continuum that nothing supports anywhere is left as the physics has it.
    if not factor.max() > 0.0:
        return ContinuumCorrection(tuple(knots.tolist()), (1.0,) * len(knots))
    amount = ratio_of(weights[len(area) :], thick_area) / factor.max()
    factor = np.maximum(factor, LEAST_CORRECTION * factor.max()) / factor.max()
    parts = tuple(
        replace(part, amount=float(one)) for part, one in zip(thick, amount, strict=True) if one > 0.0
    )
    return ContinuumCorrection(tuple(knots.tolist()), tuple(factor.tolist()), parts)


def _open_directions(
    fit: Problem, state: State, columns: list[Column], sources: Sources, marginal: Array
) -> ShapeDirections:
    """Directions of response and ratios that the counts tell, from the information that holds the prior's too."""
    box, adjustable = fit.box, fit.columns.adjustable
    sd = np.concatenate([box.sd, fit.columns.ratio_sd[adjustable]])
    offset = np.concatenate([state.theta - box.mean, state.log_ratio])
    inside = (state.theta > box.lowest) & (state.theta < box.highest)
    names = []
    for column in columns:
        if column[0][0] in sources.found:
            names.append((*column[0], ""))
        else:
            keys = dict.fromkeys(line_group(line) for line in sources.lines(column)[0])
            names += [(*column[0], key) for key in keys]
    free = np.concatenate([inside, np.ones(len(adjustable), bool)])
    ratios = tuple(names[group] for group in adjustable)
    return shape_directions(marginal - np.diag(sd**-2.0), sd, offset, free, ratios)
