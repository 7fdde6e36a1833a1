"""Physics-guided endmembers: from counts per line family to the spectrum of each phase.

The generative story, one line a quantity (K phases, I components, F line families, B continuum knots, C channels)::

    w_ki   >= 0   counts of phase k in the main family of component i    flat prior, w_ki = 0 where declared absent
    rho_f         log of family f's ratio to its component's main one    Normal(0, sd_f), shared by all phases
    beta_b        log correction of the continuum, shared                Normal(0, 0.5)
    beta_kb       log correction of the continuum, phase k               Normal(0, 0.15)

    v_kf = w_k,owner(f) * r_kf * exp(rho_f)                              counts in family f
    h_k  = softmax_b(log area_kb + beta_b + beta_kb)                     shape of the continuum
    phi_kfc       template of family f                                   models/response.py: what is open about it
    s_kc = (sum_f v_kf phi_kfc + w_k,continuum sum_b h_kb q_kbc) / (the same summed over c)

A component is a declared element (its main family carries its amplitude), oxygen when it is seen but not reported,
one line family of a stray element (stray K, L and M lines are free of each other), or the continuum, which comes
last. phi and q are unit-area templates that already hold detector and absorption, so s_k is linear in w apart from
its normalisation.

A flat prior on w reaches zero with finite density: an element that is not there has a posterior truncated at zero,
which a logarithm would never reach.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import NOTHING

FloatArray = npt.NDArray[np.float64]

# Channels that no template reaches still have this share of the counts: log 0 must not decide a fit.
FLOOR_SHARE = 1e-7


class EndmemberBasis(NamedTuple):
    """Arrays that turn parameters into endmember spectra; a JAX pytree.

    Attributes
    ----------
    allowed : (phase, component) bool
        False where a component is declared absent; the continuum, allowed everywhere, is the last component.
    family_templates : (phase, family, energy)
        Unit-area detected spectrum of each line family.
    family_owner : (family,) int
        Component that the family belongs to.
    family_ratio : (phase, family)
        Nominal counts in the family per count in its component's main family (1 for the main family itself).
    ratio_sd : (family,)
        Prior sd of the log family ratio; 0 for main families, whose ratio is 1 by definition.
    continuum_templates : (phase, knot, energy)
        Unit-area continuum pieces.
    continuum_area : (phase, knot)
        Share of each piece in the physical continuum; sums to 1.
    floor : (energy,)
        How the share that no template holds is spread over the channels; sums to 1.
    """

    allowed: npt.NDArray[np.bool_]
    family_templates: FloatArray
    family_owner: npt.NDArray[np.int64]
    family_ratio: FloatArray
    ratio_sd: FloatArray
    continuum_templates: FloatArray
    continuum_area: FloatArray
    floor: FloatArray


def family_counts(basis: EndmemberBasis, weights: jax.Array, log_ratio: jax.Array) -> jax.Array:
    """Return the counts per line family, v_kf = w_k,owner(f) r_kf exp(rho_f), shape (phase, family).

    Parameters
    ----------
    weights : (phase, component)
        Counts in each component's main family; the last component is the continuum.
    log_ratio : (family,)
        Log departures from the nominal family ratios; 0 for main families.
    """
    return weights[:, basis.family_owner] * basis.family_ratio * jnp.exp(log_ratio)


def continuum_shape(basis: EndmemberBasis, shared: jax.Array, by_phase: jax.Array) -> jax.Array:
    """Share of each continuum piece, h_kb, shape (phase, knot), rows summing to 1.

    Parameters
    ----------
    shared : (knot,)
        Log correction common to all phases.
    by_phase : (phase, knot)
        Log correction of each phase.
    """
    # A knot without a bin has no area: a large negative logarithm keeps every derivative finite.
    area = jnp.log(jnp.maximum(basis.continuum_area, NOTHING))
    return jax.nn.softmax(area + shared + by_phase, axis=-1)


def endmember_spectra(
    basis: EndmemberBasis,
    weights: jax.Array,
    log_ratio: jax.Array,
    shared: jax.Array,
    by_phase: jax.Array,
    change: jax.Array | float = 0.0,
) -> jax.Array:
    """Endmember spectra s_kc, shape (phase, energy), rows summing to 1.

    Parameters are those of `family_counts` and `continuum_shape`, and

    Parameters
    ----------
    change : (family, energy)
        Added to the templates of every phase, from `bayesunmix.models.response.template_change`.
    """
    counts = family_counts(basis, weights, log_ratio)
    lines = jnp.einsum("kf,kfc->kc", counts, basis.family_templates)
    # The change is that of all phases: added to the templates of each, it would be multiplied as often.
    lines = lines + counts @ jnp.broadcast_to(change, basis.family_templates.shape[1:])
    continuum = jnp.einsum("kb,kbc->kc", continuum_shape(basis, shared, by_phase), basis.continuum_templates)
    # To first order, a template may turn negative in its far flanks.
    spectrum = jnp.maximum(lines + weights[:, -1:] * continuum, 0.0)
    spectrum = spectrum + FLOOR_SHARE * spectrum.sum(axis=1, keepdims=True) * basis.floor
    return spectrum / spectrum.sum(axis=1, keepdims=True)


def composition(weights: jax.Array, yields: jax.Array) -> jax.Array:
    """Atom fractions x_ke = (w_ke / y_ke) / sum_e (w_ke / y_ke), shape (..., phase, element).

    Parameters
    ----------
    weights : (..., phase, element)
        Counts in each element's main family.
    yields : (..., phase, element)
        Detected counts per atom in that family, in any common unit.

    Notes
    -----
    A phase without atoms (a support) has zeros, and its gradient is finite.
    """
    atoms = weights / yields
    total = atoms.sum(axis=-1, keepdims=True)
    return atoms / jnp.where(total > NOTHING, total, 1.0)
