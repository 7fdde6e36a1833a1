"""Lattice strain model of partition coefficients of ions of one charge on one site.

The story, for ions i of one charge:

    ln D_0       ~ Normal(0, 10)                      D of an ion that fits the site exactly
    ln E         ~ Normal(ln E_prior, 0.5)            apparent Young's modulus of the site, GPa
    r_0          ~ Normal(r_prior, 0.1)               radius of the site, Angstrom
    r_i          ~ Normal(table, sd_i)                sd_i = 0 where the table holds the ion in this coordination
    s            ~ HalfNormal(0.1)                    what the model does not explain, in ln D
    ln D_i       ~ Normal( ln D_0 - 4 pi E N_A / (R T) [ r_0 / 2 (r_i - r_0)^2 + (r_i - r_0)^3 / 3 ], s )
    counts       ~ likelihood of D_i                  models/ratio.py

E_prior = 1.5 x 750 z / d^3 GPa with z the charge and d the cation-oxygen distance in Angstrom: bulk moduli of oxide and
silicate polyhedra are 750 z / d^3 (Hazen and Finger 1979), and E is 1.5 times the bulk modulus for a Poisson ratio of
0.25, as Blundy and Wood take it. The width of 0.5, a factor of 1.6, is that of fitted moduli about this rule.

References
----------
Blundy, J., Wood, B., Nature 372 (1994) 452, doi:10.1038/372452a0. Brice, J. C., J. Cryst. Growth 28 (1975) 249,
doi:10.1016/0022-0248(75)90241-9. Hazen, R. M., Finger, L. W., J. Geophys. Res. 84 (1979) 6723,
doi:10.1029/JB084iB12p06723.

Latents: log_d0, log_modulus_offset, site_radius, radius_error, misfit, departure; deterministic: modulus_GPa,
log_ratio.
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import numpyro
import numpyro.distributions as dist

from bayesunmix.models.ratio import MeasuredRatios, ratio_log_likelihood

FloatArray = npt.NDArray[np.float64]
Values = TypeVar("Values", jax.Array, npt.NDArray[np.float64])

# Boltzmann's constant R / N_A in GPa Angstrom^3 / K (exact in the SI: 1.380649e-23 J/K).
BOLTZMANN_GPA_A3 = 1.380649e-23 / (1e9 * 1e-30)
LOG_D0_SD = 10.0
LOG_MODULUS_SD = 0.5
SITE_RADIUS_SD_A = 0.1
MISFIT_SD = 0.1
# Of oxygen in four-fold coordination (Shannon 1976), the usual choice with this rule.
OXYGEN_RADIUS_A = 1.38
PARAMETERS = 3


class StrainData(NamedTuple):
    """What the model is conditioned on; a JAX pytree.

    Attributes
    ----------
    measured : MeasuredRatios
        Arrays over (1, ion).
    radius_A, radius_sd_A : (ion,)
    site_radius_A : float
        Prior mean of r_0.
    modulus_GPa : float
        Prior median of E.
    temperature_K : float
    """

    measured: MeasuredRatios
    radius_A: FloatArray
    radius_sd_A: FloatArray
    site_radius_A: float
    modulus_GPa: float
    temperature_K: float


def modulus_prior_GPa(charge: float, site_radius_A: float) -> float:
    """Prior median of the apparent Young's modulus of a site, 1125 z / d^3 GPa.

    Examples
    --------
    >>> round(modulus_prior_GPa(3, 1.30))
    175
    """
    return 1.5 * 750.0 * charge / (site_radius_A + OXYGEN_RADIUS_A) ** 3


def log_strain_ratio(
    radius_A: Values,
    log_d0: Values,
    modulus_GPa: Values,
    site_radius_A: Values,
    temperature_K: float,
) -> Values:
    """Natural logarithm of D by the lattice strain model; arrays are broadcast against each other."""
    off = radius_A - site_radius_A
    strain = 0.5 * site_radius_A * off**2 + off**3 / 3.0
    return log_d0 - 4.0 * np.pi * modulus_GPa * strain / (BOLTZMANN_GPA_A3 * temperature_K)


def strain_model(data: StrainData) -> None:
    """NumPyro model of the ions of one charge; see the module."""
    n_ions = len(data.radius_A)

    def standard(name: str) -> jax.Array:
        values: jax.Array = numpyro.sample(name, dist.Normal(0.0, 1.0).expand((n_ions,)).to_event(1))
        return values

    log_d0 = numpyro.sample("log_d0", dist.Normal(0.0, LOG_D0_SD))
    offset = numpyro.sample("log_modulus_offset", dist.Normal(0.0, 1.0))
    modulus = numpyro.deterministic("modulus_GPa", data.modulus_GPa * jnp.exp(LOG_MODULUS_SD * offset))
    site = numpyro.sample("site_radius", dist.Normal(data.site_radius_A, SITE_RADIUS_SD_A))
    radius = data.radius_A + data.radius_sd_A * standard("radius_error")
    misfit = numpyro.sample("misfit", dist.HalfNormal(MISFIT_SD))
    mean = log_strain_ratio(radius, log_d0, modulus, site, data.temperature_K)
    log_ratio = numpyro.deterministic("log_ratio", mean + misfit * standard("departure"))
    numpyro.factor("counts", ratio_log_likelihood(log_ratio[None, :], data.measured))
