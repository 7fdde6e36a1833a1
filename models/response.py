"""What the map leaves open about line shapes: detector response and ratios inside line families, as parameters.

Axis, peak widths, tails, escape, pile-up and the ratios of sub-shells are fitted to the sum spectrum, which holds the
same counts as the model. Taken for known, their errors would be missing from the traces that lie in the flanks of
strong peaks. They are therefore parameters of the model, with the priors of that fit, along directions u_m in which the
sum spectrum says more than the prior does (all others change no spectrum by more than a fraction of its noise)::

    r        = r_fit + sum_m x_m u_m                     response and log ratios; x_m in units of the fit's own sd
    x_m      ~ Normal(mean_m, sd_m)                      their prior in these units: wide where the data say much
    phi_kfc  = phi_kfc(r_fit) + sum_m x_m d_mfc          unit-area templates, to first order

d_mfc is taken at the mean composition of the map: absorption hardly changes the shape of a family.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class ResponseUncertainty(NamedTuple):
    """Directions of the line shapes; a JAX pytree.

    Attributes
    ----------
    slopes : (direction, family, energy)
        d_mfc.
    mean, sd : (direction,)
        Prior of x.
    """

    slopes: FloatArray
    mean: FloatArray
    sd: FloatArray


# No directions: the sum over none of them suits any number of families and channels.
KNOWN_RESPONSE = ResponseUncertainty(np.zeros((0, 1, 1)), np.zeros(0), np.ones(0))


def template_change(uncertainty: ResponseUncertainty, x: jax.Array) -> jax.Array:
    """Change of the unit-area templates, sum_m x_m d_mfc, shape (family, energy).

    Parameters
    ----------
    uncertainty : ResponseUncertainty
    x : (direction,)
    """
    slopes = jnp.asarray(uncertainty.slopes)
    # One vector times one matrix: slopes in x and back then read the array as it lies.
    return (x @ slopes.reshape(len(slopes), math.prod(slopes.shape[1:]))).reshape(slopes.shape[1:])
