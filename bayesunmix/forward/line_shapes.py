"""How templates change with what the sum spectrum leaves open: slopes along the directions of the response's fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from bayesunmix.forward.spectra import ForwardModel
from bayesunmix.models.response import KNOWN_RESPONSE, ResponseUncertainty
from bayesunmix.xray.lines import line_group
from bayesunmix.xray.refinement import Refinement
from bayesunmix.xray.spectrometer import RESPONSE_NAMES, STEP

FloatArray = npt.NDArray[np.float64]


def line_shapes(
    forward: ForwardModel,
    refinement: Refinement,
    atom_fractions: FloatArray,
    edges_keV: FloatArray | None = None,
) -> ResponseUncertainty:
    """Return the slopes of all unit-area templates along the open directions.

    Parameters
    ----------
    forward : ForwardModel
        With the response and the ratios of the refinement.
    refinement : Refinement
    atom_fractions : (element,)
        Composition that absorbs: the mean of the map.
    edges_keV : (energy + 1,), optional
        Bin edges; the fitted ones by default.
    """
    if edges_keV is not None:
        forward = dataclasses.replace(forward, edges_keV=edges_keV)
    directions = refinement.directions
    if not len(directions.mean):
        none = np.zeros((0, len(forward.families), len(forward.edges_keV) - 1))
        return KNOWN_RESPONSE._replace(slopes=none)
    by_theta = _by_response(forward, refinement, atom_fractions)
    by_ratio = _by_ratio(forward, directions.ratios, atom_fractions)
    slopes = np.einsum("mp,pfc->mfc", directions.theta, by_theta)
    slopes += np.einsum("mr,rfc->mfc", directions.log_ratio, by_ratio)
    return ResponseUncertainty(slopes, directions.mean, directions.sd)


def _by_response(forward: ForwardModel, refinement: Refinement, atom_fractions: FloatArray) -> FloatArray:
    """Return the derivatives by the response parameters, (theta, family, energy)."""
    here = _templates(forward, atom_fractions)
    found = np.zeros((len(RESPONSE_NAMES), *here.shape))
    own = {family.element for family in forward.families if not family.stray}
    for place in np.flatnonzero(np.abs(refinement.directions.theta).max(axis=0) > 0.0):
        moved, table = refinement.theta.copy(), forward.table
        if RESPONSE_NAMES[place] == "bonded_k_beta_eV":
            table = table.with_bonding(1e-3 * float(STEP[place]), own)
        else:
            moved[place] += STEP[place]
        there = dataclasses.replace(forward, response=refinement.response_at(moved), table=table)
        found[place] = (_templates(there, atom_fractions) - here) / STEP[place]
    return found


def _templates(forward: ForwardModel, atom_fractions: FloatArray) -> FloatArray:
    """Unit-area templates of one composition, (family, energy)."""
    spectra = forward.family_spectra(atom_fractions[None])[0]
    return np.asarray(spectra / np.maximum(spectra.sum(axis=1, keepdims=True), 1e-300))


def _by_ratio(
    forward: ForwardModel, ratios: tuple[tuple[str, str, str], ...], atom_fractions: FloatArray
) -> FloatArray:
    """Return the derivatives by the log ratios, (ratio, family, energy).

    With S_g the spectrum of a group, a_g its area, S and a those of its family: (S_g - a_g S / a) / a, which keeps the
    family's area.
    """
    lines = forward.lines()
    keys = [
        (family.element, family.family, line_group(line))
        for family, part in zip(forward.families, lines, strict=True)
        for line in part
    ]
    energy, emitted = forward.emitted(lines)
    names = list(dict.fromkeys(keys))
    group = np.array([names.index(key) for key in keys])
    detected = emitted * forward.transmitted(atom_fractions, energy)
    spectra = forward.response.columns(energy, detected, group, len(names), forward.edges_keV)
    found = np.zeros((len(ratios), len(lines), spectra.shape[1]))
    for number, ratio in enumerate(ratios):
        for place, family in enumerate(forward.families):
            if (family.element, family.family) == ratio[:2] and ratio in names:
                own = [spectra[names.index(name)] for name in names if name[:2] == ratio[:2]]
                whole, part = np.sum(own, axis=0), spectra[names.index(ratio)]
                area = max(float(whole.sum()), 1e-300)
                found[number, place] = (part - part.sum() * whole / area) / area
    return found
