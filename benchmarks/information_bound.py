"""The least error that compositions of a simulated map can have: Cramer and Rao's bound.

What is granted: abundances and thickness of every pixel, response, line strengths, absorption, and the shapes of all
spectra. What is not: the atoms n of every element in every phase, the counts of every stray element, the continuum. The
expected counts are linear in these, mu_p = sum_k w_pk s_k with w the atoms of phase k in pixel p, so that Fisher's
information of any two of them, with spectra d_i and d_j of shape (phase, energy), is

    I_ij = sum_kl sum_c d_ikc Q_klc d_jlc,      Q_klc = sum_p w_pk w_pl / mu_pc.

Covariances of n by the inverse of I become those of atom fractions x = n / sum n. No unbiased estimate has less, and
one that must find the abundances, too, has more (Cramer 1946, Mathematical Methods of Statistics, section 32.3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bayesunmix.simulation.simulate import Source, Truth

FloatArray = npt.NDArray[np.float64]

PIXELS_AT_ONCE = 2048


def least_sd(
    source: Source, truth: Truth, counts_per_pixel: float, absent: npt.NDArray[np.bool_], used: npt.NDArray
) -> FloatArray:
    """Return the least standard deviation of each atom fraction, shape (phase, element).

    Parameters
    ----------
    source
        Physics of the map, line factors and thickness as drawn.
    truth
        What the map was drawn from.
    counts_per_pixel
        Mean of the map.
    absent
        What is declared absent, shape (phase, element): known to be zero.
    used
        Channels that the inference uses, shape (energy,).
    """
    atoms = truth.thickness[..., None] * truth.abundances
    weights = atoms.reshape(-1, atoms.shape[2])
    per_atom = truth.endmembers * truth.counts_per_atom[:, None]
    scale = counts_per_pixel / float((weights.mean(axis=0) @ per_atom).sum())
    weights, per_atom = scale * weights, per_atom[:, used]
    spectra, owners = _derivatives(source, truth, absent)
    spectra = spectra[:, :, used]
    # What no photon of the used channels tells of, such as a stray element whose lines lie elsewhere, has no say.
    seen = spectra.sum(axis=(1, 2)) > 0.0
    covariance = np.linalg.inv(information(spectra[seen], weights, per_atom))
    owners = [owner for owner, known in zip(owners, seen, strict=True) if known]
    return _of_fractions(covariance, owners, truth.composition)


def information(spectra: FloatArray, weights: FloatArray, per_atom: FloatArray) -> FloatArray:
    """Return Fisher's information of the amounts of `spectra`.

    Parameters
    ----------
    spectra
        Counts of each amount per atom of each phase, shape (amount, phase, energy).
    weights
        Atoms of each phase in each pixel, shape (pixel, phase).
    per_atom
        Expected counts per atom of each phase, shape (phase, energy).
    """
    n_phases = weights.shape[1]
    shared = np.zeros((n_phases, n_phases, per_atom.shape[1]))
    for first in range(0, len(weights), PIXELS_AT_ONCE):
        part = weights[first : first + PIXELS_AT_ONCE]
        inverse = 1.0 / np.maximum(part @ per_atom, 1e-300)
        for k in range(n_phases):
            for j in range(k + 1):
                shared[k, j] += (part[:, k] * part[:, j]) @ inverse
                shared[j, k] = shared[k, j]
    turned = np.einsum("klc,jlc->jkc", shared, spectra).reshape(len(spectra), -1)
    return np.asarray(spectra.reshape(len(spectra), -1) @ turned.T)


def _derivatives(
    source: Source, truth: Truth, absent: npt.NDArray[np.bool_]
) -> tuple[FloatArray, list[tuple[int, int] | None]]:
    """Return the spectrum of every free amount, (amount, phase, energy), and which phase and element it is of."""
    one = np.ones(len(truth.phases))
    spectra, owners = [], []
    for i, element in enumerate(truth.elements):
        lines = source.line_counts(truth.composition, {element: one})
        for k in range(len(truth.phases)):
            if not absent[k, i]:
                spectra.append(np.where(np.arange(len(one))[:, None] == k, lines, 0.0))
                owners.append((k, i))
    for element in source.stray:
        spectra.append(source.line_counts(truth.composition, {element: one}))
        owners.append(None)
    spectra.append(source.continuum(truth.composition))
    return np.stack(spectra), [*owners, None]


def _of_fractions(
    covariance: FloatArray, owners: list[tuple[int, int] | None], composition: FloatArray
) -> FloatArray:
    """Return standard deviations of atom fractions from the covariance of amounts, which add up to 1 at the truth."""
    found = np.zeros_like(composition)
    for k, fractions in enumerate(composition):
        mine = [number for number, owner in enumerate(owners) if owner is not None and owner[0] == k]
        elements = [owners[number][1] for number in mine]  # type: ignore[index]
        slopes = np.eye(len(mine)) - fractions[elements][:, None]
        found[k, elements] = np.sqrt(np.diag(slopes @ covariance[np.ix_(mine, mine)] @ slopes.T))
    return found
