"""Free-form endmembers: a non-negative spectrum channel by channel, for maps whose physics is unknown.

    u_k  = sd L xi_k,   xi_kc ~ Normal(0, 1)          log contrast of phase k with the whole map's spectrum
    s_kc = mean_c exp(u_kc) / (the same summed over c)

mean is the spectrum of the whole map, so peaks and edges have their measured shape, and a phase says how much of each
it has. L L^T is an exponential covariance of the contrast along the axis, exp(-|x_c - x_d| / length): neighbouring
channels belong to the same peak more often than not, and a contrast may still jump where one element's signal ends
and another's begins, which a differentiable process could not. The scale is learned, sd = 1.5 exp(0.5 sd_xi) with
sd_xi ~ Normal(0, 1). Likelihood and abundance prior are those of `bayesunmix.models.unmixing`.

Nothing here says what a phase may hold. Spectra are therefore known up to the share of one phase that could hide in
another wherever that one occurs: only pixels that are pure, or declared to be, end that freedom.

References
----------
The exponential covariance is that of the Ornstein-Uhlenbeck process: Uhlenbeck, G. E., Ornstein, L. S., Phys. Rev. 36
(1930) 823, doi:10.1103/PhysRev.36.823.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import numpyro
import numpyro.distributions as dist

from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.models.abundance import AbundancePrior, log_weights
from bayesunmix.models.endmember import FLOOR_SHARE
from bayesunmix.models.pixels import PixelChunks, pixel_log_likelihood
from bayesunmix.models.unmixing import Latents

FloatArray = npt.NDArray[np.float64]


class FreeData(NamedTuple):
    """Everything the free-form model is conditioned on; a JAX pytree.

    Attributes
    ----------
    pixels : PixelChunks
    prior : AbundancePrior
    log_mean : (energy,)
        Log spectrum of the whole map, unit sum.
    factor : (energy, energy)
        Lower Cholesky factor L of the contrast's correlation.
    widths : Priors
        Of the priors; fixed when a program is compiled.
    """

    pixels: PixelChunks
    prior: AbundancePrior
    log_mean: FloatArray
    factor: FloatArray
    widths: Priors = DEFAULT_PRIORS


def correlation_factor(position: FloatArray, length: float) -> FloatArray:
    """Cholesky factor of exp(-|x_c - x_d| / length), (energy, energy), by the recursion of the process.

    Parameters
    ----------
    position : (energy,)
        Places of the channels, ascending.
    length : float
        In the units of `position`.
    """
    kept = np.concatenate(([0.0], np.exp(-np.diff(position) / length)))
    innovation = np.sqrt(1.0 - kept**2)
    factor = np.zeros((len(position), len(position)))
    for row in range(len(position)):
        factor[row] = kept[row] * factor[row - 1]
        factor[row, row] = innovation[row]
    return factor


def mean_spectrum(counts: npt.NDArray[np.number]) -> FloatArray:
    """Spectrum of all pixels (energy,), unit sum, with half a count in every channel so that its log exists."""
    total = counts.sum(axis=0, dtype=np.float64) + 0.5
    return np.asarray(total / total.sum())


def contrast_scale(widths: Priors, latents: Latents) -> jax.Array:
    """Prior standard deviation of the log contrast."""
    return widths.contrast_sd * jnp.exp(widths.contrast_scale_sd * latents["contrast_sd"])


def free_endmembers(data: FreeData, latents: Latents) -> jax.Array:
    """Endmember spectra s_kc, shape (phase, energy), rows summing to 1."""
    contrast = contrast_scale(data.widths, latents) * latents["contrast"] @ jnp.asarray(data.factor).T
    spectrum = jax.nn.softmax(data.log_mean + contrast, axis=1)
    return (spectrum + FLOOR_SHARE / spectrum.shape[1]) / (1.0 + FLOOR_SHARE)


def free_model(data: FreeData, n_phases: int) -> None:
    """NumPyro model: the latents and the factor of the module docstring."""
    latents: Latents = {}
    for name, shape in (
        ("contrast", (n_phases, len(data.log_mean))),
        ("contrast_sd", ()),
        ("abundance_xi", data.prior.mean.shape),
    ):
        latents[name] = numpyro.sample(name, dist.Normal(0.0, 1.0).expand(shape).to_event(len(shape)))
    log_mixed = jnp.log(data.prior.support_points @ free_endmembers(data, latents))
    log_pi = log_weights(data.prior, latents["abundance_xi"])
    numpyro.factor("pixels", pixel_log_likelihood(log_mixed, log_pi, data.pixels))
