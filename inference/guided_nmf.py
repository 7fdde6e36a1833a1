"""Guided NMF: a few pooled spectra explained by endmembers that are confined to given templates.

    x_m ~ Poisson( sum_k A_mk sum_i W_ki t_kic ),     A, W >= 0,     W_ki = 0 where a component is absent from a phase

The rows x_m are pooled pixels (clusters), so that one factorisation takes milliseconds and many random starts can be
compared; what is declared absent, and rows declared pure, pin the solution where counts alone leave a rotation.
Multiplicative updates keep the Kullback-Leibler divergence from rising (Lee, D. D., Seung, H. S., Adv. Neural Inf.
Process. Syst. 13 (2001) 556).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import shares_of

FloatArray = npt.NDArray[np.float64]
TINY = 1e-12


@dataclass(frozen=True)
class GuidedFactorisation:
    """A factorisation of pooled spectra.

    Attributes
    ----------
    weights : (phase, component)
        Template weights, scaled so that each endmember has unit sum.
    abundances : (row, phase)
        Share of each endmember in each pooled spectrum, rows summing to 1.
    spectra : (phase, energy)
        Endmembers, unit sum.
    divergence : float
        Kullback-Leibler divergence of the pooled spectra from the fit, in nats.
    """

    weights: FloatArray
    abundances: FloatArray
    spectra: FloatArray
    divergence: float


def guided_nmf(
    pooled: FloatArray,
    templates: FloatArray,
    allowed: npt.NDArray[np.bool_],
    *,
    seed: int,
    pure_rows: dict[int, int] | None = None,
    n_iterations: int = 400,
) -> GuidedFactorisation:
    """Factorise pooled spectra from one random start.

    Parameters
    ----------
    pooled : (row, energy)
        Summed counts of each cluster of pixels.
    templates : (phase, component, energy)
        Non-negative template spectra.
    allowed : (phase, component) bool
    seed : int
    pure_rows : {row: phase}, optional
        Rows held to be that phase alone.
    n_iterations : int
    """
    generator = np.random.default_rng(seed)
    n_phases, n_components = allowed.shape
    area = templates.sum(axis=2)
    weights = generator.dirichlet(np.ones(n_components), size=n_phases) * allowed / np.maximum(area, TINY)
    amounts = generator.dirichlet(np.ones(n_phases), size=len(pooled)) * pooled.sum(axis=1, keepdims=True)
    for row, phase in (pure_rows or {}).items():
        amounts[row] = np.where(np.arange(n_phases) == phase, pooled[row].sum(), 0.0)
    for _ in range(n_iterations):
        spectra = _mixed(weights, templates) + TINY
        amounts = amounts * ((pooled / (amounts @ spectra + TINY)) @ spectra.T) / spectra.sum(axis=1)
        gain = amounts.T @ (pooled / (amounts @ spectra + TINY))
        change = np.matmul(templates, gain[:, :, None])[:, :, 0]
        weights = weights * change / np.maximum(amounts.sum(axis=0)[:, None] * area, TINY)
    spectra = _mixed(weights, templates) + TINY
    fitted = amounts @ spectra + TINY
    divergence = float((pooled * np.log((pooled + TINY) / fitted) - pooled + fitted).sum())
    total = spectra.sum(axis=1)
    amounts = amounts * total
    return GuidedFactorisation(
        weights / total[:, None],
        shares_of(amounts),
        spectra / total[:, None],
        divergence,
    )


def _mixed(weights: FloatArray, templates: FloatArray) -> FloatArray:
    """Spectra of the phases, (phase, energy): one product a phase."""
    return np.asarray(np.matmul(weights[:, None], templates)[:, 0])
