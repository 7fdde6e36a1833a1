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
1 and z; what the maps determine well is not a and b but the line through the ln D_re - h_r, and it is sampled:

    alpha_e = a_e + tau_e c_0e / |1| - mean h,   beta_e = b_e + tau_e c_1e / |z| - z.h / z.z    (of unit Jacobian)

so that a and b follow from alpha, beta, c and h, and only the other rows of c enter the ln D_re - h_r. Given tau_e and
normal errors s about an observed residual r of such a row, tau_e c would be normal of mean r tau^2 / (s^2 + tau^2) and
variance s^2 tau^2 / (s^2 + tau^2). It is sampled as its place in this normal, with the Jacobian: neither c nor tau c
would do, since errors may be a thousandth of the scatter's prior or several times it (Papaspiliopoulos, O., et al.,
Statist. Sci. 22 (2007) 59, doi:10.1214/088342307000000014). r and s decide on coordinates only, not on the posterior.

Latents:

    level           (element,)          alpha_e less the anchor, over its scale          flat; the prior is that of a_e
    gradient        (element,)          beta_e over the anchor's scale                   flat; the prior is that of b_e
    scatter         ()                  tau
    scatter_ratio   (element,)          lambda_e                         of traces; the others' are drawn from the prior
    own_scatter     (element,)          tau_e                            of the others; likewise
    departure       (1 or 2, element)   first rows of c
    residual        (others, element)   place of tau_e c in its normal                   flat; the prior is that of c
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

from bayesunmix.models.ratio import MeasuredRatios, ratio_log_likelihood

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
    residual_anchor, residual_sd : (row, element)
        r and s, likewise.
    """

    measured: MeasuredRatios
    covariate: FloatArray
    shift_factor: FloatArray
    scatter_sd: float
    trace: npt.NDArray[np.bool_]
    basis: FloatArray
    anchor: FloatArray
    anchor_scale: FloatArray
    residual_anchor: FloatArray
    residual_sd: FloatArray


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
    place = numpyro.sample("residual", dist.ImproperUniform(constraints.real, (), data.residual_sd.shape))
    total = data.residual_sd**2 + scale**2
    # In units of tau, so that nothing is divided by a scatter near zero.
    row = data.residual_anchor * scale / total + data.residual_sd / jnp.sqrt(total) * place
    prior = -0.5 * row**2 + jnp.log(data.residual_sd) - 0.5 * jnp.log(total)
    numpyro.factor("residual_prior", prior.sum())
    shift = data.shift_factor @ numpyro.sample("shift", dist.Normal(0.0, 1.0).expand((n_maps,)).to_event(1))
    centre = level + shift.mean() - scale * departure[0] / jnp.sqrt(n_maps)
    numpyro.deterministic("centre", centre)
    left_over = shift - shift.mean()
    numpyro.factor("centre_prior", dist.Normal(0.0, CENTRE_SD).log_prob(centre).sum())
    line = level + jnp.zeros((n_maps, 1))
    if trend:
        gradient = data.anchor_scale * numpyro.sample("gradient", anywhere)
        along = data.covariate @ shift / (data.covariate @ data.covariate)
        slope = gradient + along - scale * departure[1] / jnp.linalg.norm(data.covariate)
        left_over = left_over - along * data.covariate
        numpyro.deterministic("slope", slope)
        numpyro.factor("slope_prior", dist.Normal(0.0, SLOPE_SD).log_prob(slope).sum())
        line = level + gradient * data.covariate[:, None]
    nominal = line + scale * (data.basis[:, first:] @ row) - left_over[:, None]
    numpyro.deterministic("log_ratio", nominal + shift[:, None])
    numpyro.factor("counts", ratio_log_likelihood(nominal, data.measured))
