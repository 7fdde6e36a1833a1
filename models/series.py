"""Partition coefficients of several maps, partially pooled, with a trend over a covariate.

The story, for maps r of a series and elements e (D is one pair of phases' partition coefficient):

    a_e        ~ Normal(0, 5)                   ln D at the centre of the series
    b_e        ~ Normal(0, 2)                   change of ln D over one sd of the covariate; 0 without a covariate
    tau        ~ HalfNormal(scatter)            scatter of the traces between maps, beside the trend
    lambda_e   ~ LogNormal(0, 0.5)              how much more or less a trace scatters than the others
    tau_e      =  tau lambda_e                  for traces,
               ~ HalfNormal(scatter)            for every other element by itself
    eps_re     ~ Normal(0, 1)
    ln D_re    =  a_e + b_e z_r + tau_e eps_re
    h          ~ Normal(0, H)                   shift of all ln D of a map by calibration errors
    counts     ~  likelihood of exp(ln D_re - h_r)                      models/ratio.py

z is the covariate less its mean, in units of its standard deviation over the maps. H, the covariance of the shifts
between maps, is computed from the common draws of the calibration factors: maps that share their factors shift
together, which widens a and leaves b and tau alone. Four maps tell little of one element's scatter; the traces learn
it from each other. Major elements do not take part: stoichiometry holds their D nearly fixed, and what they do not
scatter would be taken for what traces do not (intervals of the traces' slopes were too narrow when they did).

Half-normal rather than a prior with heavier tails, because a scatter of the order of the scale or less is what repeated
measurements show; the default scale 0.3 puts 95 % of it below a factor of 1.8. See Gelman, A., Bayesian Anal. 1 (2006)
515, doi:10.1214/06-BA117A, on such priors with few groups.

The sampler does not walk in these quantities. eps = Q c, c ~ Normal(0, 1), with Q orthonormal, its first columns along
1 and z; what the maps determine well is not a and b but the line through the ln D_re themselves, and it is sampled:

    alpha_e = a_e + tau_e c_0e / |1|,   beta_e = b_e + tau_e c_1e / |z|       (a change of unit Jacobian)

so that a and b follow from alpha, beta and c, and only the other rows of c enter the ln D_re. These rows are sampled as
u = tau_e^k c with k between 0, for an element whose scatter the maps cannot see, and 1, for one that they see exactly:
either extreme is a funnel for the other (Papaspiliopoulos, O., et al., Statist. Sci. 22 (2007) 59,
doi:10.1214/088342307000000014).

Sites:

    level           (element,)          alpha_e less the anchor, over its scale          flat; the prior is that of a_e
    gradient        (element,)          beta_e over the anchor's scale                   flat; the prior is that of b_e
    scatter         ()                  tau
    scatter_ratio   (element,)          lambda_e                         of traces; the others' are drawn from the prior
    own_scatter     (element,)          tau_e                            of the others; likewise
    departure       (1 or 2, element)   first rows of c
    residual        (others, element)   u
    shift           (map,)              h in units of the columns of its factor
    centre, slope   (element,)          a_e, b_e                         deterministic; slope with a covariate only
    log_ratio       (map, element)      ln D_re                          deterministic
    element_scatter (element,)          tau_e                            deterministic
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from bayesunmix.models.ratio import MeasuredRatios, log_likelihood

FloatArray = npt.NDArray[np.float64]

CENTRE_SD = 5.0
SLOPE_SD = 2.0
SCATTER_SD = 0.3
SCATTER_RATIO_SD = 0.5


class SeriesData(NamedTuple):
    """What the model is conditioned on; a JAX pytree.

    Attributes
    ----------
    measured : MeasuredRatios
        Arrays over (map, element).
    covariate : (map,)
        z, standardised; zeros without a covariate.
    shift_factor : (map, map)
        Factor L of the covariance of the shifts, H = L L^T.
    scatter_sd : float
        Scale of the prior of tau.
    trace : (element,) bool
        Elements that learn their scatter from each other.
    basis : (map, map)
        Q, orthonormal; its first column goes with 1, its second, with a covariate, with z.
    anchor, anchor_scale : (element,)
        Rough place and uncertainty of alpha: coordinates for the sampler, no prior.
    centring : (element,)
        k, likewise.
    """

    measured: MeasuredRatios
    covariate: FloatArray
    shift_factor: FloatArray
    scatter_sd: float
    trace: npt.NDArray[np.bool_]
    basis: FloatArray
    anchor: FloatArray
    anchor_scale: FloatArray
    centring: FloatArray


def residual_basis(covariate: FloatArray) -> FloatArray:
    """Orthonormal columns of which the first go with 1 and, where it varies, the covariate, shape (map, map).

    Parameters
    ----------
    covariate : (map,)
        With mean 0.
    """
    columns = [np.ones_like(covariate), *([covariate] if np.any(covariate) else []), *np.eye(len(covariate))]
    basis, triangle = np.linalg.qr(np.stack(columns, axis=1))
    return np.asarray(basis * np.sign(np.diag(triangle)))


def series_model(data: SeriesData, *, trend: bool) -> None:
    """NumPyro model of a series; see the module."""
    n_maps, n_elements = data.measured.top.shape
    anywhere = dist.ImproperUniform(constraints.real, (), (n_elements,))
    level = data.anchor + data.anchor_scale * numpyro.sample("level", anywhere)
    scatter = numpyro.sample("scatter", dist.HalfNormal(data.scatter_sd))
    ratio_prior = dist.LogNormal(0.0, SCATTER_RATIO_SD).expand((n_elements,)).to_event(1)
    ratio = numpyro.sample("scatter_ratio", ratio_prior)
    own_prior = dist.HalfNormal(data.scatter_sd).expand((n_elements,)).to_event(1)
    own = numpyro.sample("own_scatter", own_prior)
    scale = numpyro.deterministic("element_scatter", jnp.where(data.trace, scatter * ratio, own))
    first = 2 if trend else 1
    departure = numpyro.sample("departure", dist.Normal(0.0, 1.0).expand((first, n_elements)).to_event(2))
    power = scale**data.centring
    spread = jnp.broadcast_to(power, (n_maps - first, n_elements))
    residual = numpyro.sample("residual", dist.Normal(0.0, spread).to_event(2))
    shift = numpyro.sample("shift", dist.Normal(0.0, 1.0).expand((n_maps,)).to_event(1))
    centre = numpyro.deterministic("centre", level - scale * departure[0] / jnp.sqrt(n_maps))
    numpyro.factor("centre_prior", dist.Normal(0.0, CENTRE_SD).log_prob(centre).sum())
    line = level + jnp.zeros((n_maps, 1))
    if trend:
        gradient = data.anchor_scale * numpyro.sample("gradient", anywhere)
        slope = gradient - scale * departure[1] / jnp.linalg.norm(data.covariate)
        numpyro.deterministic("slope", slope)
        numpyro.factor("slope_prior", dist.Normal(0.0, SLOPE_SD).log_prob(slope).sum())
        line = level + gradient * data.covariate[:, None]
    log_ratio = numpyro.deterministic("log_ratio", line + scale / power * (data.basis[:, first:] @ residual))
    shifted = log_ratio - (data.shift_factor @ shift)[:, None]
    numpyro.factor("counts", log_likelihood(shifted, data.measured))
