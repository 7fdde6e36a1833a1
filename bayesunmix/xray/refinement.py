"""What the map's own total spectrum says about spectrometer, line ratios, continuum and undeclared elements.

Model of the counts of channel c, theta the response and rho the log ratios of sub-shells inside families:

    y_c ~ Poisson( sum_j w_j sum_g exp(rho_g) phi_gc(theta) + sum_b v_b q_bc ),    w, v >= 0,

one w per line family j, whose lines fall into groups g (K-alpha and K-beta; L1, L2, L3; M1 to M5), and one v per hat of
the continuum q. Absorption in the film, at the map's mean composition, acts on both. It is maximised like the rough
calibration it starts from (`calibration`), by Fisher scoring on (w, v, theta, rho) with Gaussian priors:

    bend 0, 4 eV            charge collection tau 0, 0.1 um, R 0.5, 0.15       escape 1, 0.5 of theory
    pile-up 0, 0.5 %: with photons of C, N and O K, which pass below the threshold of the pile-up rejector and often
            below the axis, one share each, adding 1, 0.05 of their energy since their pulses begin earlier or later;
            and with all other lines in proportion to their counts, one rate
    line ratios 0, with the standard deviations of `RATIO_SD`
    shift of K-beta where valence electrons emit it 0, 5 eV: oxides and elements differ by that much (Baun, W. L.,
            Fischer, D. W., The effect of valence and coordination on K series diagram and nondiagram lines of
            magnesium, aluminum, and silicon, Adv. X-Ray Anal. 8 (1964))
    bend of the continuum's correction 0, 0.2 of its mean

The ratios are shape, not calibration: a family's detected total is kept. Stray lines come from thick bars and
apertures, which absorb their own radiation, so theirs are wider. Elements that nobody declared are added one by one as
long as the next explains the misfit far better than chance: better a nuisance too many than its counts in a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from bayesunmix.xray.atomic import USUAL, atomic_number
from bayesunmix.xray.calibration import Calibration, poisson_deviance
from bayesunmix.xray.continuum import bremsstrahlung, hat_functions
from bayesunmix.xray.detector import Detector
from bayesunmix.xray.lines import LIGHTEST_CORE_K_BETA, Line, LineTable, emitted_by_valence, line_group
from bayesunmix.xray.response import BEND_KNOTS_KEV, Response
from bayesunmix.xray.scoring import LEAST_MEAN, Box, Columns, Problem, State
from bayesunmix.xray.shape_directions import ShapeDirections, shape_directions

# Carbon, nitrogen and oxygen K.
SOFT_PARTNERS_KEV = (0.277, 0.392, 0.525)
N_BEND, N_SOFT = len(BEND_KNOTS_KEV), len(SOFT_PARTNERS_KEV)
NAMES = (
    *("gain", "offset_keV", "noise_eV", "fano"),
    *(f"bend_eV_{knot:g}_keV" for knot in BEND_KNOTS_KEV),
    *("collection_depth_um", "surface_collection", "escape"),
    *(f"pile_up_{energy:g}_keV" for energy in SOFT_PARTNERS_KEV),
    "pile_up",
    "pile_up_added",
    "bonded_k_beta_eV",
)
# Means of gain to Fano factor are those of the calibration.
PRIOR_MEAN = np.array(
    [1.0, 0.0, np.nan, np.nan, *[0.0] * N_BEND, 0.0, 0.5, 1.0, *[0.0] * N_SOFT, 0.0, 1.0, 0.0]
)
PRIOR_SD = np.array(
    [0.005, 0.03, 15.0, 0.01, *[4.0] * N_BEND, 0.1, 0.15, 0.5, *[5e-3] * N_SOFT, 5e-3, 0.05, 5.0]
)
START = np.array([np.nan] * 4 + [*[0.0] * N_BEND, 0.03, 0.5, 1.0, *[1e-3] * N_SOFT, 3e-4, 1.0, 0.0])
LOWEST = np.array(
    [0.95, -0.2, 5.0, 0.02, *[-40.0] * N_BEND, 1e-4, 0.0, 0.0, *[0.0] * N_SOFT, 0.0, 0.7, -25.0]
)
HIGHEST = np.array([1.05, 0.2, 400.0, 0.5, *[40.0] * N_BEND, 2.0, 0.95, 3.0, *[0.1] * N_SOFT, 0.1, 1.0, 25.0])
STEP = np.array(
    [1e-6, 1e-5, 1e-2, 1e-5, *[1e-2] * N_BEND, 1e-4, 1e-3, 1e-3, *[1e-5] * N_SOFT, 1e-5, 1e-3, 1e-2]
)

# Prior standard deviation of the log ratio of a group to its family's strongest. K-beta of the light elements comes
# from valence electrons, so it depends on the compound; sub-shell yields of L and M differ between tables.
RATIO_SD = {"K": 0.05, "L": 0.10, "M": 0.15}
VALENCE_K_SD = 0.20
STRAY_RATIO_SD = 0.25
SMALLEST_GROUP = 0.005
# Lines below this share of their column are left out of the fit.
WEAKEST_LINE = 1e-3
# Families with at least this share of the counts are partners of pile-up.
PARTNER_SHARE = 0.01
# Prior standard deviation of the bend of the continuum's correction (second difference over knots), relative to its
# mean: an absorption edge bends it, a line must not.
CONTINUUM_BEND_SD = 0.2
# Channels are merged up to this share of the narrowest peak's width.
FINE_ENOUGH = 0.3
# The continuum gets more hats the more counts there are.
FEWEST_HATS, MOST_HATS = 7, 12
# An undeclared element is added when it is this many standard deviations, widened by the misfit, above zero.
FOUND_SIGMAS = 4.5
MOST_FOUND = 10
# ... and has at least this share of its spectrum to itself.
LEAST_OWN = 0.05
# The continuum's correction never falls below this share of its largest value: it must stay positive.
LEAST_CORRECTION = 1e-3

Array = npt.NDArray[np.float64]
Column = tuple[tuple[str, str], ...]  # families (element, family) that share a weight


@dataclass(frozen=True)
class ContinuumCorrection:
    """Smooth factor on the physical continuum, linear in log energy between knots.

    Parameters
    ----------
    energy_keV, factor
        Knots and the factor there, positive, shape (knot,).
    """

    energy_keV: tuple[float, ...]
    factor: tuple[float, ...]

    def __call__(self, energy_keV: Array) -> Array:
        """Return the factor at energies in keV."""
        at = np.log(np.maximum(energy_keV, 1e-3))
        return np.interp(at, np.log(self.energy_keV), self.factor)


NO_CORRECTION = ContinuumCorrection((1.0,), (1.0,))


@dataclass(frozen=True)
class Refinement:
    """The spectrometer and the lines as the total spectrum shows them.

    Parameters
    ----------
    response
        Position, width, tail, escape and pile-up.
    standard_errors
        Keyed by the names of `NAMES`, widened where the model does not fit.
    table
        The line table with refined ratios inside families, and the lines of the elements found.
    line_ratios
        Factor on each group's strength relative to its family's strongest, keyed (element, family, group).
    continuum
        Correction of the physical continuum.
    found
        Counts of elements that nobody declared, strongest first.
    counts
        Counts of each family, keyed ``Fe_K``.
    bonded_k_beta_eV
        Shift of the K-beta lines that valence electrons emit; `table` holds it.
    deviance, degrees_of_freedom
        Of the total spectrum.
    theta, partners
        Response parameters in the order of `NAMES`, and the families that others pile up with.
    directions
        In which the response and the line ratios are open.
    """

    response: Response
    standard_errors: dict[str, float]
    table: LineTable
    line_ratios: dict[tuple[str, str, str], float]
    continuum: ContinuumCorrection
    found: dict[str, float]
    counts: dict[str, float]
    bonded_k_beta_eV: float
    deviance: float
    degrees_of_freedom: int
    theta: Array
    partners: tuple[tuple[float, float], ...]
    directions: ShapeDirections

    def response_at(self, theta: Array) -> Response:
        """Response of other parameters, in the order of `NAMES`."""
        return _response(theta, self.partners)

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
    calibration: Calibration,
    *,
    beam_energy_keV: float,
    detector: Detector,
    transmission: Callable[[Array], Array],
    find_undeclared: bool = True,
) -> Refinement:
    """Fit everything to a total spectrum.

    Parameters
    ----------
    counts, channel_edges_keV
        Total spectrum and the edges of its channels, shapes (energy,) and (energy + 1,).
    table
        Lines of the elements.
    elements, stray
        Of the sample, with oxygen where it is seen, and of everything else.
    calibration
        Rough calibration of the same spectrum: the start.
    beam_energy_keV, detector
        For the continuum and the efficiency.
    transmission
        Share of the photons that leave the film, as a function of energies in keV.
    find_undeclared
        Look for elements that nobody declared.
    """
    counts, edges = merge_channels(counts, channel_edges_keV, calibration.response)
    sources = _Sources(table, detector, transmission, frozenset(stray))
    columns: list[Column] = [
        (family,)
        for element in dict.fromkeys([*elements, *stray])
        for family in ((element, name) for name in table.families(element, edges[0], edges[-1]))
    ]
    knots, area, continuum = _continuum(counts, edges, beam_energy_keV, sources)
    stiffness = _stiffness(area, calibration)
    partners = _partners(calibration, sources)
    rough = calibration.response
    theta, mean = START.copy(), PRIOR_MEAN.copy()
    theta[:4] = rough.gain, rough.offset_keV, rough.noise_eV, rough.fano
    mean[2:4] = detector.response.noise_eV, detector.response.fano
    box = Box(mean, PRIOR_SD, LOWEST, HIGHEST, STEP)

    def problem(columns: list[Column], sources: _Sources) -> Problem:
        design = sources.columns(columns, continuum, stiffness, edges)
        return Problem(
            counts, design, box, lambda theta: (_response(theta, partners), 1e-3 * float(theta[-1]))
        )

    fit = problem(columns, sources)
    state = fit.maximise(fit.start(np.clip(theta, LOWEST, HIGHEST)))
    # Weak elements show only once strong ones are fitted.
    while find_undeclared:
        declared = {family[0] for column in columns for family in column}
        known = len(sources.found)
        sources = _with_undeclared(fit, state, sources, declared, beam_energy_keV, edges)
        if len(sources.found) == known:
            break
        columns += [
            tuple((element, name) for name in sources.table.families(element, edges[0], edges[-1]))
            for element in sources.found[known:]
        ]
        fit = problem(columns, sources)
        state = fit.maximise(fit.start(state.theta, state.log_ratio))
    return _summary(fit, state, sources, columns, partners, (knots, area))


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


@dataclass(frozen=True)
class _Sources:
    """Where photons come from and what they pass on their way."""

    table: LineTable
    detector: Detector
    transmission: Callable[[Array], Array]
    stray: frozenset[str]
    found: tuple[str, ...] = ()

    def lines(self, column: Column) -> tuple[list[Line], Array]:
        """Lines of a column and their detected strengths."""
        lines = [line for element, family in column for line in self.table.lines(element, family)]
        energy = np.array([line.energy_keV for line in lines])
        strength = np.array([line.strength for line in lines])
        return lines, strength * self.detector.efficiency(energy) * self.transmission(energy)

    def columns(self, columns: list[Column], continuum: Array, stiffness: Array, edges: Array) -> Columns:
        """Line up all columns with the groups whose ratios are adjustable."""
        energy: list[float] = []
        areas: list[float] = []
        groups: list[int] = []
        bonded: list[bool] = []
        owner: list[int] = []
        ratio_sd: list[float] = []
        for number, column in enumerate(columns):
            lines, detected = self.lines(column)
            share = detected / detected.sum()
            keys = [line_group(line) for line in lines]
            # Ratios inside elements that nobody declared stay as they are: there are few counts.
            apart = column[0][0] not in self.found
            names = list(dict.fromkeys(keys)) if apart else [""]
            total = [sum(a for a, k in zip(share, keys, strict=True) if name in ("", k)) for name in names]
            strongest = names[int(np.argmax(total))]
            for line, area, key in zip(lines, share, keys, strict=True):
                if area >= WEAKEST_LINE:
                    energy.append(line.energy_keV)
                    areas.append(area)
                    groups.append(len(owner) + (names.index(key) if apart else 0))
                    bonded.append(self._bonded(line))
            for name, part in zip(names, total, strict=True):
                owner.append(number)
                fixed = name == strongest or part < SMALLEST_GROUP
                ratio_sd.append(0.0 if fixed else self._ratio_sd(*column[0]))
        return Columns(
            np.array(energy),
            np.array(areas),
            np.array(groups),
            np.array(bonded, bool),
            np.array(owner),
            np.array(ratio_sd),
            continuum,
            stiffness,
            edges,
        )

    def _bonded(self, line: Line) -> bool:
        """Whether valence electrons of the sample's atoms emit a line."""
        foreign = line.element in self.stray or line.element in self.found
        return not foreign and emitted_by_valence(line)

    def _ratio_sd(self, element: str, family: str) -> float:
        if element in self.found:
            return 0.0
        if element in self.stray:
            return STRAY_RATIO_SD
        if family == "K" and atomic_number(element) < LIGHTEST_CORE_K_BETA:
            return VALENCE_K_SD
        return RATIO_SD[family]


def _continuum(
    counts: Array, edges: Array, beam_energy_keV: float, sources: _Sources
) -> tuple[Array, Array, Array]:
    """Knots of the continuum's hats, their areas on the physical shape, and the hats with unit area."""
    centre = 0.5 * (edges[1:] + edges[:-1])
    number = int(np.clip(round(2.0 * np.log10(counts.sum())), FEWEST_HATS, MOST_HATS))
    lowest = max(centre[0], edges[1] - edges[0])
    shape = bremsstrahlung(edges, beam_energy_keV, sources.detector.efficiency)
    shape = shape * sources.transmission(np.maximum(centre, lowest))
    pieces = shape * hat_functions(centre, lowest, centre[-1], number)
    area = pieces.sum(axis=1)
    return np.geomspace(lowest, centre[-1], number), area, pieces / area[:, None]


def _stiffness(area: Array, calibration: Calibration) -> Array:
    """Prior rows on the continuum's weights: the bend of the correction at each knot, in units of its deviation."""
    counts = sum(
        weight
        for name, weight in zip(calibration.components, calibration.weights.tolist(), strict=True)
        if name.startswith("continuum")
    )
    # A spectrum may show no continuum: then as if it were one count.
    typical = max(counts, 1.0) / float(area.sum())
    bend = np.diff(np.eye(area.size), n=2, axis=0)
    return np.asarray(bend / area / (CONTINUUM_BEND_SD * typical))


def _partners(calibration: Calibration, sources: _Sources) -> tuple[tuple[float, float], ...]:
    """Energy and share of the counts of the strongest families: what other photons pile up with."""
    total = float(calibration.weights.sum())
    partners = []
    for name, counts in zip(calibration.components, calibration.weights.tolist(), strict=True):
        if not name.startswith("continuum") and counts > PARTNER_SHARE * total:
            element, family = name.split("_")
            lines, detected = sources.lines(((element, family),))
            energy = np.average([line.energy_keV for line in lines], weights=detected)
            partners.append((float(energy), counts / total))
    return tuple(partners)


def _response(theta: Array, partners: tuple[tuple[float, float], ...]) -> Response:
    """Response of a parameter vector in the order of `NAMES`."""
    bend = 4 + N_BEND
    soft = theta[bend + 3 : bend + 3 + N_SOFT]
    rate, added = (float(value) for value in theta[-3:-1])
    return Response(
        gain=float(theta[0]),
        offset_keV=float(theta[1]),
        noise_eV=float(theta[2]),
        fano=float(theta[3]),
        bend_eV=tuple(theta[4:bend].tolist()),
        collection_depth_um=float(theta[bend]),
        surface_collection=float(theta[bend + 1]),
        escape=float(theta[bend + 2]),
        pile_up=(
            *(
                (added * energy, share)
                for energy, share in zip(SOFT_PARTNERS_KEV, soft.tolist(), strict=True)
            ),
            *((energy, rate * share) for energy, share in partners),
        ),
    )


def _with_undeclared(
    fit: Problem,
    state: State,
    sources: _Sources,
    declared: set[str],
    beam_energy_keV: float,
    edges: Array,
) -> _Sources:
    """Return the sources with the elements that the misfit asks for, one after the other."""
    others = [element for element in sorted(USUAL) if element not in declared and atomic_number(element) > 2]
    known = tuple(line for line in sources.table.entries if line.element in others)
    unknown = [element for element in others if element not in sources.table.elements]
    every = replace(sources.table, entries=(*known, *LineTable.built_in(beam_energy_keV, unknown).entries))
    others = [element for element in others if element in every.elements]
    candidates = [element for element in others if every.families(element, edges[0], edges[-1])]
    trial = replace(sources, table=every, found=tuple(candidates))
    tied = [tuple((e, name) for name in every.families(e, edges[0], edges[-1])) for e in candidates]
    columns = trial.columns(tied, np.empty((0, edges.size - 1)), np.empty((0, 0)), edges)
    spectra = columns.groups(*fit.respond(state.theta))
    design, slopes = fit.slopes(state)
    mean = np.maximum(state.weights @ design, LEAST_MEAN)
    widened = np.sqrt(max(1.0, poisson_deviance(fit.counts, mean) / fit.counts.size))
    kept = np.concatenate([design[state.weights > 0.0], slopes]) / np.sqrt(mean)
    # The prior's information stands in for data on the smooth parameters.
    sd = np.concatenate([fit.box.sd, fit.columns.ratio_sd[fit.columns.adjustable]])
    precision = np.concatenate([np.zeros(int((state.weights > 0.0).sum())), sd**-2.0])
    residual = (fit.counts - mean) / np.sqrt(mean)
    chosen: list[int] = []
    while len(chosen) < MOST_FOUND:
        rows = np.concatenate([kept, spectra[chosen] / np.sqrt(mean)])
        information = rows @ rows.T + np.diag(np.concatenate([precision, np.full(len(chosen), 1e-12)]))
        scale = 1.0 / np.sqrt(np.diag(information))
        factor = cho_factor(information * np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))
        scaled = spectra / np.sqrt(mean)
        overlap = (rows @ scaled.T) * scale[:, None]
        solved = cho_solve(factor, overlap)
        left = (scaled**2).sum(axis=1) - (overlap * solved).sum(axis=0)
        # At the optimum the gradient, the prior's included, is zero but for the elements just added.
        gradient = np.concatenate([np.zeros(len(kept)), rows[len(kept) :] @ residual])
        score = scaled @ residual - solved.T @ (gradient * scale)
        sigmas = np.where(
            left > LEAST_OWN * (scaled**2).sum(axis=1), score / np.sqrt(np.maximum(left, 1e-12)), 0.0
        )
        sigmas[chosen] = 0.0
        best = int(np.argmax(sigmas))
        if sigmas[best] < FOUND_SIGMAS * widened:
            break
        chosen.append(best)
    found = tuple(candidates[index] for index in chosen)
    entries = tuple(line for line in every.entries if line.element in found and line not in known)
    table = replace(sources.table, entries=(*sources.table.entries, *entries))
    return replace(sources, table=table, found=(*sources.found, *found))


def _summary(
    fit: Problem,
    state: State,
    sources: _Sources,
    columns: list[Column],
    partners: tuple[tuple[float, float], ...],
    hats: tuple[Array, Array],
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
    variance = np.diag(np.linalg.inv(marginal))[: len(NAMES)] * max(1.0, deviance / dof)
    factors = np.ones(len(fit.columns.owner))
    factors[adjustable] = np.exp(state.log_ratio)
    ratios: dict[tuple[str, str, str], float] = {}
    for number, column in enumerate(columns):
        if column[0][0] not in sources.found:
            lines, _ = sources.lines(column)
            names = list(dict.fromkeys(line_group(line) for line in lines))
            own = factors[fit.columns.owner == number]
            ratios |= {(*column[0], name): float(f) for name, f in zip(names, own, strict=True) if f != 1.0}
    knots, area = hats
    factor = state.weights[fit.columns.number :] / area
    # A continuum that nothing supports anywhere is left as the physics has it.
    factor = (
        np.maximum(factor, LEAST_CORRECTION * factor.max()) / factor.max()
        if factor.max() > 0
        else 1.0 + 0 * factor
    )
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
        _response(state.theta, partners),
        dict(zip(NAMES, np.sqrt(np.maximum(variance, 0.0)).tolist(), strict=True)),
        table,
        ratios,
        ContinuumCorrection(tuple(knots.tolist()), tuple(np.asarray(factor).tolist())),
        undeclared,
        counts,
        float(state.theta[-1]),
        deviance,
        dof,
        state.theta,
        partners,
        open_,
    )


def _open_directions(
    fit: Problem, state: State, columns: list[Column], sources: _Sources, marginal: Array
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
