"""From draws of counts to compositions.

For each posterior draw the atom fractions are

    x_ke  proportional to  w_ke / ( y_ke * c_e * A_ke(t, mu, x_k) / A_ke(t_mean, mu_mean, x_k,absorbing) )

with w the counts in the element's main family, y its nominal yield, and three things drawn from their priors and
shared by all phases of the draw: the calibration factor c_e ~ LogNormal(0, sd_e), the film's mass thickness t, and the
mass absorption coefficients mu. The map does not update them (a cut posterior; Lee et al. 2011,
doi:10.1088/0004-637X/731/2/126): they widen compositions and cancel, to first order, in partition coefficients but for
what two phases absorb differently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats.qmc import Sobol

from bayesunmix.core.shares import shares_of
from bayesunmix.forward.spectra import THICKNESS_GRID, ForwardModel

FloatArray = npt.NDArray[np.float64]

# A relative film thickness below this is cut off: the prior is a normal, and a film has some thickness.
THINNEST = 0.05


@dataclass(frozen=True)
class CalibrationDraws:
    """What calibration and absorption contribute to each posterior draw.

    Attributes
    ----------
    log_factor : (chain, draw, element)
        Log calibration factor of each element's main family, shared by all phases.
    thickness : (chain, draw)
        Mass thickness relative to its mean.
    log_absorption : (chain, draw, absorber)
        Log factor on the mass absorption coefficients of each absorbing element above 1 keV, shared by all phases.
    """

    log_factor: FloatArray
    thickness: FloatArray
    log_absorption: FloatArray


def draw_calibration(forward: ForwardModel, shape: tuple[int, int], seed: int) -> CalibrationDraws:
    """Draw calibration factors, film thickness and absorption coefficients from their priors, for each posterior draw.

    The draws are a scrambled Sobol sequence (Owen, A. B., Ann. Stat. 25 (1997) 1541, doi:10.1214/aos/1031594731)
    mapped to normal quantiles: exact draws of the prior whose averages converge faster than those of independent ones.

    Parameters
    ----------
    forward : ForwardModel
    shape : (chains, draws)
    seed : int
    """
    sd, film = forward.calibration_sd, forward.film
    chains, draws = shape
    n_factors, n_absorbers = len(sd), len(film.absorbers(forward.elements))
    normal = np.empty((*shape, n_factors + 1 + n_absorbers))
    for chain in range(chains):
        sequence = Sobol(normal.shape[-1], rng=np.random.default_rng([seed, 20, chain]))
        uniform = sequence.random_base2(int(np.ceil(np.log2(draws))))[:draws]
        normal[chain] = ndtri(np.clip(uniform, 1e-12, 1.0 - 1e-12))
    drawn = np.abs(1.0 + film.mass_thickness_sd * normal[..., n_factors])
    return CalibrationDraws(
        sd * normal[..., :n_factors],
        np.clip(drawn, THINNEST, THICKNESS_GRID[-1]),
        film.absorption_sd * normal[..., n_factors + 1 :],
    )


def compositions(
    weights: FloatArray,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Atom fractions of every draw, shape (chain, draw, phase, element); zeros for a phase without atoms.

    Parameters
    ----------
    weights, yields, forward, absorbing, calibration
        See `relative_atoms`.
    """
    return shares_of(relative_atoms(weights, yields, forward, absorbing, calibration))


def relative_atoms(
    weights: FloatArray,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Atoms of every draw in units of counts over yield, each draw absorbing by its own composition.

    With S the slopes of log yield by an absorber's coefficient and W the absorbers' weight fractions, the yields change
    by the factor exp( sum_a S_a (W_a / W_a,absorbing - 1) ): a draw with more Ca has more of its O absorbed, and so
    more O.

    Parameters
    ----------
    weights, yields, forward, absorbing, calibration
        See `atoms_at`.

    Returns
    -------
    (chain, draw, phase, element)
    """
    atoms = atoms_at(weights, yields, forward, absorbing, calibration)
    own = forward.absorber_weights(shares_of(atoms))
    nominal = forward.absorber_weights(absorbing)
    change = np.divide(own, nominal, out=np.ones_like(own), where=nominal > 0.0) - 1.0
    slopes = forward.absorber_slopes(absorbing)[..., 0]
    return np.asarray(atoms * np.exp(-np.einsum("cdpa,pea->cdpe", change, slopes)))


def atoms_at(
    weights: FloatArray,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Atoms of every draw in units of counts over yield, absorbed by given compositions, (chain, draw, phase, element).

    Parameters
    ----------
    weights : (chain, draw, phase, component)
    yields : (phase, element)
        Nominal yields, at the mean thickness.
    absorbing : (phase, element)
        Compositions whose absorption the yields hold.
    calibration : CalibrationDraws, optional
        Left out, calibration factors and thickness are nominal: what remains is counting and unmixing.
    """
    atoms = weights[..., : yields.shape[1]] / yields
    if calibration is not None:
        change = forward.yield_change(absorbing)
        low = np.clip(np.searchsorted(THICKNESS_GRID, calibration.thickness) - 1, 0, len(THICKNESS_GRID) - 2)
        part = (calibration.thickness - THICKNESS_GRID[low]) / (THICKNESS_GRID[low + 1] - THICKNESS_GRID[low])
        part = part[..., None, None]
        atoms = atoms / ((1.0 - part) * change[low] + part * change[low + 1])
        slopes = forward.absorber_slopes(absorbing)[..., 1]
        absorbed = np.einsum("cda,pea->cdpe", calibration.log_absorption, slopes)
        atoms = atoms * np.exp(-calibration.log_factor[:, :, None, :] - absorbed)
    return np.asarray(atoms)
