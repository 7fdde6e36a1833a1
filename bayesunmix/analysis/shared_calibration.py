"""Draws of several results with their calibration factors in common.

A run draws its factors f_e from their priors: x_ke is proportional to n_ke exp(-f_e), n_ke the amounts at nominal
factors. Two maps quantified with the same line table by the same family have the same error, not two errors. The
factors of every result are therefore taken out of its draws,

    n_ke  proportional to  x_ke exp(f_e),

and one common set of draws is put in. A factor is common to the results that read the element from the same line
family, with the same table, measured factor, beam energy and standard deviation; all others are independent. Draws of
counts, unmixing and film thickness belong to one map each and stay independent: every result's are paired at random.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats.qmc import Sobol

from bayesunmix.core.errors import warn
from bayesunmix.core.shares import shares_of

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

# A power of two, as Sobol sequences want it: quantiles of 95 % intervals are then good to a few per cent of a width.
DRAWS = 4096


def nominal_draws(result: Result) -> FloatArray:
    """Atom fractions at nominal calibration factors, thickness drawn in, shape (draw, phase, element).

    Results of versions that did not keep their factors keep them in their draws, with a warning.
    """
    posterior = result.tree["posterior"].to_dataset()
    draws = posterior["composition"].transpose("chain", "draw", "phase", "element").values
    if "log_calibration" in posterior:
        factors = posterior["log_calibration"].transpose("chain", "draw", "element").values
        amounts = draws * np.exp(factors)[:, :, None, :]
        draws = shares_of(amounts)
    return np.asarray(draws.reshape(-1, *draws.shape[2:]))


def factor_keys(result: Result) -> list[tuple[Hashable, float]]:
    """Say what each element's calibration factor is a factor of, with its standard deviation.

    Elements of results that did not keep their factors have the deviation 0: nothing is put in that was not taken out.
    """
    tree, record = result.tree, result.record
    constants = tree["constant_data"].to_dataset() if "constant_data" in tree.children else {}
    if "log_calibration" not in tree["posterior"] or "calibration_sd" not in constants:
        note = (
            "A result holds no calibration factors (written by an older version): its calibration errors are "
        )
        warn(note + "taken as independent of the others'.")
        return [(None, 0.0) for _ in result.elements]
    xray = record.config.xray
    measured = {**(xray.k_factors or {}), **(xray.zeta_factors or {})}
    table = record.lines.split("; measured")[0]
    families = constants["calibration_family"].sel(element=result.elements).values
    sds = constants["calibration_sd"].sel(element=result.elements).values
    keys: list[tuple[Hashable, float]] = []
    for element, family, sd in zip(result.elements, families, sds, strict=True):
        given = tuple(
            sorted(
                (name, tuple(map(float, value)))
                for name, value in measured.items()
                if name in (f"{element}_{family}", f"{element}_{family}a")
            )
        )
        keys.append(((element, str(family), table, given, round(float(sd), 9)), float(sd)))
    return keys


def common_factors(
    keys: Sequence[Sequence[tuple[Hashable, float]]], n_draws: int, seed: int
) -> list[FloatArray]:
    """Log calibration factors of every result, equal where the results share the factor, each (draw, element).

    Parameters
    ----------
    keys
        `factor_keys` of every result.
    n_draws
        Number of draws, a power of two.
    seed
        Seed of the scrambled Sobol sequence (Owen, A. B., Ann. Stat. 25 (1997) 1541, doi:10.1214/aos/1031594731).
    """
    columns: dict[Hashable, int] = {}
    for result in keys:
        for key, sd in result:
            if sd > 0.0:
                columns.setdefault(key, len(columns))
    if not columns:
        return [np.zeros((n_draws, len(result))) for result in keys]
    uniform = Sobol(len(columns), rng=np.random.default_rng([seed, 30])).random(n_draws)
    normal = ndtri(np.clip(uniform, 1e-12, 1.0 - 1e-12))
    return [
        np.stack(
            [sd * normal[:, columns[key]] if sd > 0.0 else np.zeros(n_draws) for key, sd in result], axis=1
        )
        for result in keys
    ]


def shuffled(draws: FloatArray, n_draws: int, rng: np.random.Generator) -> FloatArray:
    """Return `n_draws` draws in random order, each used as evenly as the numbers allow."""
    rounds = -(-n_draws // len(draws))
    order = np.concatenate([rng.permutation(len(draws)) for _ in range(rounds)])[:n_draws]
    return np.asarray(draws[order])


def with_common_factors(nominal: FloatArray, factors: FloatArray) -> FloatArray:
    """Put log factors (draw, element) into nominal atom fractions (draw, phase, element)."""
    amounts = nominal * np.exp(-factors)[:, None, :]
    return shares_of(amounts)
