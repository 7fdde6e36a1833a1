"""The abundance-marginalised Poisson unmixing model.

Given its total counts T_p, a pixel's spectrum is multinomial with probabilities m = sum_k a_pk s_k, whatever the
thickness, but for absorption and stray signal, which tilt them a little. The abundances a_p are integrated out over
the support points alpha_j of the abundance prior::

    s_k       endmember spectra                      models/endmember.py, line shapes models/response.py
    pi_j      probabilities of the support points    models/abundance.py
    m_pj      sum_k alpha_jk s_k, tilted             models/thickness.py
    log p(y_p | s, pi) = logsumexp_j [ log pi_j + sum_c y_pc log m_pjc ]                          pixels are independent

Declared knowledge enters as structure (a component that is absent from a phase has no weight there) and as one soft
factor: statements on compositions (`bayesunmix.models.statements`), computed with nominal calibration factors.
Calibration factors are not in this model: the map must not learn them (a cut posterior; Lee, H., et al., Astrophys. J.
731 (2011) 126, doi:10.1088/0004-637X/731/2/126). They are drawn from their priors when compositions are read off.

Latents (all real or positive, K phases, see `UnmixingData` for the index sets):

    line_units          (free,)          w_ki in units of `scale`          flat on the positive axis
    family_log_ratio    (ratio,)         rho_f / sd_f                      Normal(0, 1)
    continuum_shared    (knot,)          beta_b / 0.5                      Normal(0, 1)
    continuum_by_phase  (phase, knot)    beta_kb / 0.15                    Normal(0, 1)
    abundance_xi        (support_point,) xi_j                              Normal(0, 1)
    absorption_scale    ()               (lambda - 1) / sd                 Normal(0, 1)
    stray_exponent      ()               kappa                             Normal(0, 1)
    response            (direction,)     x_m                               Normal(mean_m, sd_m)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.models.abundance import AbundancePrior, log_weights
from bayesunmix.models.endmember import (
    EndmemberBasis,
    composition,
    endmember_spectra,
)
from bayesunmix.models.pixels import PixelChunks, pixel_log_likelihood
from bayesunmix.models.response import KNOWN_RESPONSE, ResponseUncertainty, template_change
from bayesunmix.models.statements import Statements, statements_log_density
from bayesunmix.models.thickness import ThicknessEffect, absorption_scale, answered, stray_exponent

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[np.float64] | jax.Array

# Widths are no arrays of the data: they are constants of its compiled programs.
jax.tree_util.register_static(Priors)

# s_k does not change when all its weights grow together; this holds their sum near 1 without a constraint.
GAUGE_SD = 1e-3


class UnmixingData(NamedTuple):
    """Everything the model is conditioned on; a JAX pytree.

    Attributes
    ----------
    pixels : PixelChunks
    basis, prior : EndmemberBasis, AbundancePrior
    free : (free, 2) int
        Phase and component of each weight that is a parameter.
    scale : (free,)
        Unit of each weight, about its posterior sd.
    ratio_family : (ratio,) int
        Families whose log ratio is a parameter.
    yields : (phase, element)
        Detected counts per atom in each element's main family.
    statements : Statements
    effect : ThicknessEffect
    response : ResponseUncertainty
    widths : Priors
        Of the priors; fixed when a program is compiled.
    """

    pixels: PixelChunks
    basis: EndmemberBasis
    prior: AbundancePrior
    free: npt.NDArray[np.int64]
    scale: FloatArray
    ratio_family: npt.NDArray[np.int64]
    yields: FloatArray
    statements: Statements
    effect: ThicknessEffect
    response: ResponseUncertainty = KNOWN_RESPONSE
    widths: Priors = DEFAULT_PRIORS


Latents = dict[str, Any]


def latent_shapes(data: UnmixingData) -> dict[str, tuple[int, ...]]:
    """Shape of every latent."""
    n_phases, n_knots = data.basis.continuum_area.shape
    return {
        "line_units": data.scale.shape,
        "family_log_ratio": data.ratio_family.shape,
        "continuum_shared": (n_knots,),
        "continuum_by_phase": (n_phases, n_knots),
        "abundance_xi": data.prior.mean.shape,
        "absorption_scale": (),
        "stray_exponent": (),
        "response": data.response.mean.shape,
    }


def component_weights(data: UnmixingData, latents: Latents) -> jax.Array:
    """Weights w_ki of every phase and component, zeros where declared absent, shape (phase, component)."""
    empty = jnp.zeros(data.basis.allowed.shape)
    return empty.at[data.free[:, 0], data.free[:, 1]].set(data.scale * latents["line_units"])


def log_ratios(data: UnmixingData, latents: Latents) -> jax.Array:
    """Log family ratios rho_f, 0 for main families, shape (family,)."""
    index = data.ratio_family
    none = jnp.zeros(data.basis.ratio_sd.shape)
    return none.at[index].set(data.basis.ratio_sd[index] * latents["family_log_ratio"])


def continuum_corrections(widths: Priors, latents: Latents) -> tuple[jax.Array, jax.Array]:
    """Log corrections of the continuum, shared (knot,) and by phase (phase, knot)."""
    shared = widths.continuum_shared_sd * latents["continuum_shared"]
    return shared, widths.continuum_phase_sd * latents["continuum_by_phase"]


def spectra(data: UnmixingData, latents: Latents) -> jax.Array:
    """Endmember spectra s_kc, shape (phase, energy)."""
    corrections = continuum_corrections(data.widths, latents)
    change = template_change(data.response, latents["response"])
    return endmember_spectra(
        data.basis, component_weights(data, latents), log_ratios(data, latents), *corrections, change
    )


def thickness_parameters(data: UnmixingData, latents: Latents) -> tuple[Array, Array]:
    """Scale lambda of the counts as a thickness, and exponent kappa of the stray signal."""
    scale = absorption_scale(data.effect, latents["absorption_scale"])
    return scale, stray_exponent(data.widths.stray_exponent_sd, latents["stray_exponent"])


def log_likelihood(
    data: UnmixingData, spectra_: jax.Array, log_pi: jax.Array, scale: Array, exponent: Array
) -> jax.Array:
    """Marginal log-likelihood of all pixels, relative to their baselines.

    Parameters
    ----------
    data : UnmixingData
    spectra_ : (phase, energy)
    log_pi : (support_point,)
    scale, exponent : scalars
        From `thickness_parameters`.
    """
    points = jnp.asarray(data.prior.support_points)
    log_mixed = answered(points @ spectra_, points, data.effect, scale, exponent)
    total: jax.Array = pixel_log_likelihood(log_mixed, log_pi, data.pixels)
    return total


def unmixing_model(data: UnmixingData) -> None:
    """NumPyro model: the latents and factors of the module docstring, in its order."""
    shapes = latent_shapes(data)
    positive = dist.ImproperUniform(constraints.softplus_positive, (), shapes["line_units"])
    latents: Latents = {"line_units": numpyro.sample("line_units", positive)}
    for name in (
        "family_log_ratio",
        "continuum_shared",
        "continuum_by_phase",
        "abundance_xi",
        "absorption_scale",
        "stray_exponent",
    ):
        normal = dist.Normal(0.0, 1.0).expand(shapes[name]).to_event(len(shapes[name]))
        latents[name] = numpyro.sample(name, normal)
    open_shapes = dist.Normal(data.response.mean, data.response.sd)
    latents["response"] = numpyro.sample("response", open_shapes.to_event(1))

    weights = component_weights(data, latents)
    numpyro.factor("gauge", -0.5 * (jnp.log(weights.sum(axis=1)) ** 2).sum() / GAUGE_SD**2)
    fractions = composition(weights[:, : data.yields.shape[1]], jnp.asarray(data.yields))
    numpyro.factor("statements", statements_log_density(data.statements, fractions))
    log_pi = log_weights(data.prior, latents["abundance_xi"])
    pixels = log_likelihood(data, spectra(data, latents), log_pi, *thickness_parameters(data, latents))
    numpyro.factor("pixels", pixels)
