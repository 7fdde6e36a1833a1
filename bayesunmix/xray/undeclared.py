"""What nobody declared, found one by one in what the fit of a sum spectrum leaves: elements, and thick parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from bayesunmix.xray.atomic import USUAL, atomic_number
from bayesunmix.xray.lines import LineTable
from bayesunmix.xray.scoring import LEAST_MEAN, Problem, State, poisson_deviance
from bayesunmix.xray.sources import Sources

# An undeclared element, or a thick part, is added when it is this many standard deviations, widened by the misfit,
# above zero.
FOUND_SIGMAS = 4.5
MOST_FOUND = 10
# ... and has at least this share of its spectrum to itself.
LEAST_OWN = 0.05

Array = npt.NDArray[np.float64]


def asked_for(fit: Problem, state: State, spectra: Array, least_own: float) -> list[int]:
    """Additional spectra that the misfit asks for far beyond chance, one after the other, the strongest first.

    Parameters
    ----------
    fit, state
        The problem at its optimum.
    spectra : (spectrum, energy)
    least_own : float
        Share of a spectrum that the fit must not be able to make by itself.
    """
    design, slopes = fit.slopes(state)
    mean = np.maximum(state.weights @ design, LEAST_MEAN)
    widened = np.sqrt(max(1.0, poisson_deviance(fit.counts, mean) / fit.counts.size))
    kept = np.concatenate([design[state.weights > 0.0], slopes]) / np.sqrt(mean)
    # The prior's information stands in for data on the smooth parameters.
    sd = np.concatenate([fit.box.sd, fit.columns.ratio_sd[fit.columns.adjustable]])
    precision = np.concatenate([np.zeros(int((state.weights > 0.0).sum())), sd**-2.0])
    residual = (fit.counts - mean) / np.sqrt(mean)
    scaled = spectra / np.sqrt(mean)
    chosen: list[int] = []
    while len(chosen) < min(MOST_FOUND, len(spectra)):
        rows = np.concatenate([kept, scaled[chosen]])
        information = rows @ rows.T + np.diag(np.concatenate([precision, np.full(len(chosen), 1e-12)]))
        scale = 1.0 / np.sqrt(np.diag(information))
        factor = cho_factor(information * np.outer(scale, scale) + 1e-9 * np.eye(len(scale)))
        overlap = (rows @ scaled.T) * scale[:, None]
        solved = cho_solve(factor, overlap)
        left = (scaled**2).sum(axis=1) - (overlap * solved).sum(axis=0)
        # At the optimum the gradient, the prior's included, is zero but for the spectra just added.
        gradient = np.concatenate([np.zeros(len(kept)), rows[len(kept) :] @ residual])
        score = scaled @ residual - solved.T @ (gradient * scale)
        own = left > least_own * (scaled**2).sum(axis=1)
        sigmas = np.where(own, score / np.sqrt(np.maximum(left, 1e-12)), 0.0)
        sigmas[chosen] = 0.0
        best = int(np.argmax(sigmas))
        if sigmas[best] < FOUND_SIGMAS * widened:
            break
        chosen.append(best)
    return chosen


def with_undeclared(
    fit: Problem,
    state: State,
    sources: Sources,
    declared: set[str],
    beam_energy_keV: float,
    edges: Array,
) -> Sources:
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
    chosen = asked_for(fit, state, columns.groups(*fit.respond(state.theta)), LEAST_OWN)
    found = tuple(candidates[index] for index in chosen)
    entries = tuple(line for line in every.entries if line.element in found and line not in known)
    table = replace(sources.table, entries=(*sources.table.entries, *entries))
    return replace(sources, table=table, found=(*sources.found, *found))
