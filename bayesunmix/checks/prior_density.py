"""Log density of the priors at draws, part by part: what power-scaling asks for to see how far an answer rests on them.

Amounts of the components have a flat prior, and calibration factors are drawn from theirs whatever the counts say:
neither has a density here.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.models.statements import statements_log_density

FloatArray = npt.NDArray[np.float64]

# Latents that are standard normal before, by the name of their part.
NORMAL = {
    "line_ratios": ("family_log_ratio",),
    "continuum": ("continuum_shared", "continuum_by_phase"),
    "abundances": ("abundance_xi",),
    "thickness": ("absorption_scale", "stray_exponent"),
}


def log_prior(fitted: FittedPosterior, z: FloatArray) -> dict[str, FloatArray]:
    """Log density of each part of the priors up to a constant, (chain, draw).

    Parts without a parameter are left out.

    Parameters
    ----------
    fitted : FittedPosterior
    z : (chain, draw, dim)
        Flat draws.
    """
    places, data = fitted.model.places, fitted.data
    found = {}
    for part, names in NORMAL.items():
        values = np.concatenate([z[..., places[name]] for name in names], axis=-1)
        found[part] = -0.5 * (values**2).sum(axis=-1)
    away = (z[..., places["response"]] - data.response.mean) / np.asarray(data.response.sd)
    found["line_shapes"] = -0.5 * (away**2).sum(axis=-1)
    found["statements"] = _statements(fitted, z)
    return {part: values for part, values in found.items() if values.std() > 0.0}


def _statements(fitted: FittedPosterior, z: FloatArray) -> FloatArray:
    """Log density of soft statements on compositions, (chain, draw)."""
    data, lines = fitted.data, fitted.model.places["line_units"]
    units = np.logaddexp(0.0, z[..., lines]) * np.asarray(data.scale)
    weights = np.zeros((*z.shape[:2], *data.basis.allowed.shape))
    free = np.asarray(data.free)
    weights[:, :, free[:, 0], free[:, 1]] = units
    fractions = nominal_fractions(weights, np.asarray(data.yields)).reshape(-1, *np.shape(data.yields))
    found = [float(statements_log_density(data.statements, one)) for one in fractions]
    return np.reshape(found, z.shape[:2])
