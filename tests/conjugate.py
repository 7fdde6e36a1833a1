"""A study whose posterior is known on paper: the mean of four normal draws under a normal prior.

Module of its own, because worker processes import it by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesunmix.laboratory.replicates import Study

N_DATA = 4


def simulate(seed: int) -> tuple[dict[str, float], np.ndarray]:
    """Draw two means from Normal(0, 1), and four data of each."""
    rng = np.random.default_rng([seed, 0])
    truth = rng.standard_normal(2)
    named = {"a": truth[0], "b": truth[1], "exp a": np.exp(truth[0]), "not inferred": 1.0}
    return named, rng.normal(truth, 1.0, (N_DATA, 2))


@dataclass(frozen=True)
class Infer:
    """Draw from the posterior; some seeds fail."""

    failing: tuple[int, ...] = ()

    def __call__(self, data: np.ndarray, seed: int) -> dict[str, np.ndarray]:
        """Return draws of both means and of one's exponential."""
        if seed in self.failing:
            raise ValueError("no posterior")
        rng = np.random.default_rng([seed, 1])
        centre, sd = data.sum(axis=0) / (N_DATA + 1), (N_DATA + 1) ** -0.5
        a, b = rng.normal(centre[:, None], sd, (2, 99))
        return {"a": a, "b": b, "exp a": np.exp(a)}


def study(*failing: int) -> Study:
    """Return the study."""
    return Study(simulate, Infer(failing), {"model": "conjugate", "failing": failing})
