"""Whether a spectrum shows an element that was found in it, or whether errors of the known lines can look like it.

A fit of a sum spectrum takes up undeclared elements for what its misfit looks like (`undeclared`). An element is
shown where its counts stay far beyond chance when everything else may be off by what line tables and models of a
detector get wrong,

    y = A w + sum_k e_k E_k + noise,     e_k ~ N(0, 1),

A what was fitted, with its slopes by response and line ratios, and E_k one standard deviation of error k:

    height of each line     5, 20 and 30 % of a K, L and M line, and 20 % of K-beta from valence electrons, with 0.3, 1
                            and 2 % of the family where the table may have too little
    energy of each line     2, 4 and 5 eV
    width of each line      2 %
    tail of each line       1 % of it from one to 2.5 and from 2.5 to 4 widths below
    escape peak             30 % of theory
    sums of strong lines    0.3 % of the weaker one; with photons of C, N and O K 0.05 % of each line beside the fit
    absorption edges        a step of 5 % of the continuum, of 50 % at those of C, N and O, which windows are made of

So an element under lines of others is not shown, however many counts a fit gives it; one with a line of its own is, and
so is one whose lines in several places could be errors in each of them, but not together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import ndtr

from bayesunmix.core.shares import shares_of
from bayesunmix.xray.ionisation import edge_energy_keV, shells
from bayesunmix.xray.lines import emitted_by_valence, line_group
from bayesunmix.xray.response import FWHM2_PER_VARIANCE, Response
from bayesunmix.xray.satellites import SILICON_K_ALPHA_KEV, escape_probability
from bayesunmix.xray.scoring import LEAST_MEAN, Problem, State
from bayesunmix.xray.sources import Column, Sources
from bayesunmix.xray.spectrometer import RESPONSE_NAMES

# An element is shown from this many standard deviations on, errors of everything else included.
SHOWN_SIGMAS = 5.0
# Errors of one line by its family: of its height, as a share of itself and of its family, and of its energy.
HEIGHT_SD = {"K": 0.05, "L": 0.20, "M": 0.30}
HEIGHT_FLOOR = {"K": 0.003, "L": 0.01, "M": 0.02}
ENERGY_KEV = {"K": 0.002, "L": 0.004, "M": 0.005}
WIDTH_SD, ESCAPE_SD = 0.02, 0.3
# Shapes and steps that a model can be wrong by: the tail below a line, as a share of it and between so many widths;
# pile-up as a share of the weaker partner; a step of the continuum at an edge, which the hats take up so far away.
TAIL_ERROR, TAIL_WIDTHS = 0.01, ((1.0, 2.5), (2.5, 4.0))
PILE_UP_ERROR, STRONG_LINES = 0.003, 8
EDGE_ERROR, EDGE_WIDTHS = 0.05, 6.0
EDGES = ("K", "L3", "M5")
# Edges of the sensor's dead layer and contact, and of windows, which are there or not, whatever the sample holds.
IN_FRONT, WINDOW, WINDOW_ERROR = ("Al", "Si"), ("C", "N", "O"), 0.5
# A soft partner piles up with all lines: each of them tells of it, and little is left open.
SOFT_PILE_UP_SD = 5e-4
SURER_SD = np.array([SOFT_PILE_UP_SD if name.startswith("pile_up_0") else np.inf for name in RESPONSE_NAMES])
# Errors that add less than this to the deviance change nothing, and of very many lines the largest are enough.
LEAST_DEVIANCE, MOST_ERRORS = 0.01, 2000
LEAST_COUNTS = 3.0
# Share of a spectrum that everything else must leave to an element.
LEAST_OWN = 1e-3

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ElementEvidence:
    """What speaks for an element that was found.

    Parameters
    ----------
    sigmas
        Its counts in standard deviations, with all errors of everything else.
    sways
        Families whose own counts would change by more than their standard error if it was not there, as ``Fe_K``.
    """

    sigmas: float
    sways: tuple[str, ...]

    @property
    def shown(self) -> bool:
        """Whether errors of everything else cannot look like it."""
        return self.sigmas >= SHOWN_SIGMAS


def evidence_for(
    found: Iterable[str], fit: Problem, state: State, columns: Sequence[Column], sources: Sources
) -> dict[str, ElementEvidence]:
    """Judge the elements that were found in a spectrum.

    Parameters
    ----------
    found
        Elements, each with a column of its own.
    fit, state
        The problem with their columns at its optimum.
    columns, sources
        Its families in order, and their lines.
    """
    free = np.flatnonzero(state.weights > 0.0)
    places = {columns[n][0][0]: place for place, n in enumerate(free.tolist()) if n < len(columns)}
    places = {element: places[element] for element in found if element in places}
    if not places:
        return {}
    design, slopes = fit.slopes(state)
    mean = np.maximum(state.weights @ design, LEAST_MEAN)
    root = np.sqrt(mean)
    fitted, prior = np.concatenate([design[free], slopes]) / root, _prior(fit, free)
    spectra = {
        element: _families(fit, state, columns[free[place]], state.weights[free[place]], sources) / root
        for element, place in places.items()
    }
    kept = np.delete(np.arange(len(fitted)), list(places.values()))
    owner, errors = _errors(fit, state, columns, sources)
    deviance = (errors**2 / mean).sum(axis=1)
    large = np.argsort(-deviance)[: min(MOST_ERRORS, int((deviance > LEAST_DEVIANCE).sum()))]
    whose = tuple(columns[number][0][0] if number >= 0 else "" for number in owner[large])
    residual = (fit.counts - mean) / root
    rest = _Rest(
        fitted=fitted[kept],
        prior=prior[np.ix_(kept, kept)],
        residual=residual,
        whose=whose,
        errors=errors[large] / root,
    )
    sigmas, information = _sigmas(rest, spectra), fitted @ fitted.T + prior
    return {
        element: ElementEvidence(sigmas[element], _swayed(information, state.weights, free, place, columns))
        for element, place in places.items()
    }


def _prior(fit: Problem, free: npt.NDArray[np.intp]) -> Array:
    """Information of the priors about free weights and smooth parameters."""
    sd = np.concatenate([np.minimum(fit.box.sd, SURER_SD), fit.columns.ratio_sd[fit.columns.adjustable]])
    prior = np.diag(np.concatenate([np.zeros(len(free)), sd**-2.0]))
    prior[: len(free), : len(free)] += fit.prior_information[np.ix_(free, free)]
    return prior


@dataclass(frozen=True, kw_only=True)
class _Rest:
    """What may explain a spectrum without the elements found, in units of the counting error of each channel.

    Parameters
    ----------
    fitted : (row, energy)
        What was fitted.
    prior : (row, row)
        Information of its priors.
    residual : (energy,)
        Of the fit with the elements found.
    whose : (error,)
        Elements that the errors belong to.
    errors : (error, energy)
    """

    fitted: Array
    prior: Array
    residual: Array
    whose: tuple[str, ...]
    errors: Array


def _sigmas(rest: _Rest, spectra: dict[str, Array]) -> dict[str, float]:
    """Take in one element after the other, the one first that the counts ask for most with all errors free.

    Parameters
    ----------
    rest
        Everything else.
    spectra
        Of each element, (family, energy), as fitted, the hardest first.
    """
    sigmas: dict[str, float] = {}
    shown: list[str] = []
    while len(shown) < len(spectra):
        allowed = np.array([whose not in spectra or whose in shown for whose in rest.whose], bool)
        left = [element for element in spectra if element not in shown]
        # Softer lines may be lacking, which thick parts absorb, but never the harder ones.
        patterns = [np.cumsum(spectra[e], axis=0) for e in left]
        z = _scores(rest, rest.errors[allowed], spectra, shown, np.concatenate(patterns))
        best = [float(part.max()) for part in np.split(z, np.cumsum([len(p) for p in patterns])[:-1])]
        sigmas |= dict(zip(left, best, strict=True))
        if max(best) < SHOWN_SIGMAS:
            break
        shown.append(left[int(np.argmax(best))])
    return sigmas


def _scores(
    rest: _Rest, errors: Array, spectra: dict[str, Array], shown: Sequence[str], patterns: Array
) -> Array:
    """Return by how many standard deviations the counts ask for patterns, all else being free, (pattern,)."""
    added = np.concatenate([np.empty((0, patterns.shape[1])), *(spectra[element] for element in shown)])
    rows = np.concatenate([rest.fitted, added, errors])
    n, m = len(rest.fitted), len(rest.fitted) + len(added)
    information = rows @ rows.T
    information[:n, :n] += rest.prior
    information[m:, m:] += np.eye(len(errors))
    scale = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-12))
    factor = cho_factor(information * np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))
    taken = np.sum([spectrum.sum(axis=0) for spectrum in spectra.values()], axis=0)
    residual = rest.residual + taken
    # At the optimum the gradient of what was fitted is zero, the priors' included, but for what is taken out.
    gradient = np.concatenate([rest.fitted @ taken, rows[n:] @ residual])
    overlap = rows @ patterns.T
    solved = cho_solve(factor, np.column_stack([gradient, overlap]) * scale[:, None]) * scale[:, None]
    step, by_pattern = solved[:, 0], solved[:, 1:]
    misfit = np.sum((residual - step @ rows) ** 2) + np.sum(step[m:] ** 2)
    own = (patterns**2).sum(axis=1) - (overlap * by_pattern).sum(axis=0)
    score = patterns @ residual - by_pattern.T @ gradient
    told = own > LEAST_OWN * (patterns**2).sum(axis=1)
    sigmas = np.where(told, score / np.sqrt(np.maximum(own, 1e-300)), 0.0)
    return np.asarray(sigmas / np.sqrt(max(1.0, misfit / residual.size)))


def _families(fit: Problem, state: State, column: Column, counts: float, sources: Sources) -> Array:
    """Spectra of the families of a column, (family, energy)."""
    lines, detected = sources.lines(column)
    names = [name for _, name in column]
    group = np.array([names.index(line.family) for line in lines])
    energy = np.array([line.energy_keV for line in lines])
    response, _ = fit.respond(state.theta)
    return response.columns(energy, counts * shares_of(detected), group, len(names), fit.columns.edges)


def _swayed(
    inner: Array, weights: Array, free: npt.NDArray[np.intp], place: int, columns: Sequence[Column]
) -> tuple[str, ...]:
    """Families whose weight would change by more than its standard error without the column of one element."""
    scale = 1.0 / np.sqrt(np.diag(inner))
    covariance = np.linalg.inv(inner * np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))
    covariance *= np.outer(scale, scale)
    names = []
    for index, family in enumerate(free.tolist()):
        if family >= len(columns) or index == place:
            continue
        change = weights[free[place]] * covariance[index, place] / covariance[place, place]
        # Without the element its variance is no longer part of the family's.
        alone = covariance[index, index] - covariance[index, place] ** 2 / covariance[place, place]
        if abs(change) > np.sqrt(max(alone, 0.0)):
            names.append("+".join(f"{element}_{name}" for element, name in columns[family]))
    return tuple(names)


@dataclass(frozen=True, kw_only=True)
class _SeenLines:
    """Lines as they were fitted, arrays of shape (line,), and their errors at one standard deviation."""

    energy_keV: Array
    counts: Array
    owner: npt.NDArray[np.intp]
    height_error: Array
    energy_error_keV: Array


def _lines(fit: Problem, state: State, columns: Sequence[Column], sources: Sources) -> _SeenLines:
    factors = np.ones(len(fit.columns.owner))
    factors[fit.columns.adjustable] = np.exp(state.log_ratio)
    rows: list[tuple[float, float, int, float, float]] = []
    valence = sources.table.priors.line_ratio_valence_k_sd
    for number, column in enumerate(columns):
        lines, detected = sources.lines(column)
        keys = [line_group(line) for line in lines]
        own = factors[fit.columns.owner == number]
        # Elements that were found have no ratios of their own.
        place = list(dict.fromkeys(keys)) if len(own) > 1 else keys[:0]
        factor = np.array([own[place.index(key)] if place else own[0] for key in keys])
        counts = state.weights[number] * shares_of(detected) * factor
        for line, n in zip(lines, counts.tolist(), strict=True):
            family = sum(m for other, m in zip(lines, counts, strict=True) if other.family == line.family)
            share = valence if emitted_by_valence(line) else HEIGHT_SD[line.family]
            error = share * n + HEIGHT_FLOOR[line.family] * family
            rows.append((line.energy_keV, n, number, error, ENERGY_KEV[line.family]))
    energy, counts, owner, height, shift = (np.array(part) for part in zip(*rows, strict=True))
    return _SeenLines(
        energy_keV=energy,
        counts=counts,
        owner=owner.astype(np.intp),
        height_error=height,
        energy_error_keV=shift,
    )


def _errors(
    fit: Problem, state: State, columns: Sequence[Column], sources: Sources
) -> tuple[npt.NDArray[np.intp], Array]:
    """Columns that the errors belong to, -1 for none, and one standard deviation of each, (error, energy)."""
    response, _ = fit.respond(state.theta)
    lines, edges = _lines(fit, state, columns, sources), fit.columns.edges
    seen = (lines.counts > LEAST_COUNTS) & (lines.energy_keV < edges[-1])
    lines = _SeenLines(**{name: values[seen] for name, values in vars(lines).items()})
    strong = np.argsort(-lines.counts)[:STRONG_LINES]
    continuum = state.weights[len(columns) :] @ fit.columns.continuum
    elements = dict.fromkeys(column[0][0] for column in columns if column[0][0] not in sources.found)
    parts = [
        (lines.owner, _line_errors(lines, response, edges)),
        (lines.owner, _satellite_errors(lines, response, edges)),
        _pile_up_errors(lines, strong, response, edges),
        _edge_errors((*elements, *IN_FRONT), EDGE_ERROR * continuum, response, edges),
        _edge_errors(WINDOW, WINDOW_ERROR * continuum, response, edges),
    ]
    owner = [np.resize(own, len(rows)) for own, rows in parts]
    return np.concatenate(owner), np.concatenate([rows for _, rows in parts])


def _peaks(energy: Array, response: Response, edges: Array) -> Array:
    """Peaks of one count, (peak, energy)."""
    return response.columns(energy, np.ones(len(energy)), np.arange(len(energy)), len(energy), edges)


def _line_errors(lines: _SeenLines, response: Response, edges: Array) -> Array:
    """Errors of height, energy and width of every line, one kind after the other."""
    sigma = np.asarray(response.fwhm_keV(lines.energy_keV)) / np.sqrt(FWHM2_PER_VARIANCE)
    step = 0.3 * sigma
    here = _peaks(lines.energy_keV, response, edges)
    above, below = (_peaks(lines.energy_keV + sign * step, response, edges) for sign in (1.0, -1.0))
    moved = (lines.counts * lines.energy_error_keV / (2.0 * step))[:, None] * (above - below)
    # Sigma times the slope by sigma is sigma squared times the curvature.
    wider = (lines.counts * WIDTH_SD * (sigma / step) ** 2)[:, None] * (above - 2.0 * here + below)
    return np.concatenate([lines.height_error[:, None] * here, moved, wider])


def _satellite_errors(lines: _SeenLines, response: Response, edges: Array) -> Array:
    """Errors of the tail and of the escape peak of every line, one kind after the other."""
    plain = replace(response, collection_depth_um=0.0, escape=0.0, pile_up=())
    width = np.asarray(response.fwhm_keV(lines.energy_keV))
    tails = [
        np.mean(
            [_peaks(lines.energy_keV - at * width, plain, edges) for at in np.linspace(*reach, 4)], axis=0
        )
        for reach in TAIL_WIDTHS
    ]
    escaping = lines.counts * ESCAPE_SD * escape_probability(lines.energy_keV)
    escape = escaping[:, None] * _peaks(lines.energy_keV - SILICON_K_ALPHA_KEV, plain, edges)
    return np.concatenate([*(TAIL_ERROR * lines.counts[:, None] * tail for tail in tails), escape])


def _pile_up_errors(
    lines: _SeenLines, strong: npt.NDArray[np.intp], response: Response, edges: Array
) -> tuple[npt.NDArray[np.intp], Array]:
    """Errors of the sums of strong lines; those of the column of either line are the weaker one's."""
    first, second = (strong[index] for index in np.triu_indices(len(strong)))
    weaker = np.where(lines.counts[first] < lines.counts[second], first, second)
    plain = replace(response, pile_up=())
    peaks = _peaks(lines.energy_keV[first] + lines.energy_keV[second], plain, edges)
    return lines.owner[weaker], PILE_UP_ERROR * lines.counts[weaker, None] * peaks


def _edge_errors(
    elements: Iterable[str], step: Array, response: Response, edges: Array
) -> tuple[npt.NDArray[np.intp], Array]:
    """Errors of the continuum's steps at absorption edges."""
    centre, rows = 0.5 * (edges[1:] + edges[:-1]), []
    for element in dict.fromkeys(elements):
        for shell in EDGES:
            if shell in shells(element):
                at = float(response.apparent_keV(edge_energy_keV(element, shell)))
                width = float(response.fwhm_keV(at))
                beyond = np.maximum(centre - at, 0.0) / (EDGE_WIDTHS * width)
                sigma = width / np.sqrt(FWHM2_PER_VARIANCE)
                rows.append(step * ndtr((centre - at) / sigma) * np.exp(-beyond))
    return np.full(len(rows), -1), np.reshape(rows, (-1, len(centre)))
