"""Free-form endmembers beside physics-guided ones on the embedded phantom, with and without pure pixels.

Both see the same maps. The physics-guided model is told elements, absences, matrix and stoichiometry; the free-form
one the matrix alone, and its endmembers are read by the line model afterwards. In the second kind of map every phase
is pure somewhere, and neither is told anything but the elements.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from bench import Options, Row
from phantom_coverage import phantom

from bayesunmix.laboratory.maps import one_run, reported_intervals

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import Truth

FloatArray = npt.NDArray[np.float64]

SEEDS = (4, 1)
SHAPE = (64, 64)
COUNTS = 150.0
FILLED = (0.5, 0.3, 0.2)
# Coverage of what pure pixels pin, and of what the warning does not name.
LEAST_PINNED = 0.85


class Judged(NamedTuple):
    """One run by phase: angle of the spectrum, coverage of compositions, error of the map, and seconds."""

    angle_deg: FloatArray
    held: FloatArray
    of: FloatArray
    rmse: FloatArray
    seconds: float


def rows(options: Options) -> list[Row]:
    """Rows of both models on both kinds of map."""
    found = []
    for filled, title in ((False, "matrix with embedded grains"), (True, "every phase pure somewhere")):
        judged: dict[str, list[Judged]] = {"physics": [], "free": []}
        for seed in range(SEEDS[options.quick]):
            for endmembers, runs in judged.items():
                drawn = _config(filled=filled)
                told = drawn if endmembers == "physics" and not filled else _untold(drawn)
                inference = dataclasses.replace(told.inference, endmembers=endmembers)
                result, truth = one_run(dataclasses.replace(told, inference=inference), seed, drawn)
                runs.append(judge(result, truth))
        found += [_row(title, name, runs, pinned=3 if filled else 1) for name, runs in judged.items()]
    return found


def judge(result: Result, truth: Truth) -> Judged:
    """Compare a run with the truth; phases that were not told apart are matched by their spectra."""
    spectra = np.nan_to_num(result.tree["endmembers"]["mean"].values)
    norms = np.outer(np.linalg.norm(truth.endmembers, axis=1), np.linalg.norm(spectra, axis=1))
    angle = np.degrees(np.arccos(np.clip(truth.endmembers @ spectra.T / norms, -1.0, 1.0)))
    order = _matched(angle)
    n_phases = len(order)
    named = dataclasses.replace(
        truth, phases=tuple(result.phases), composition=truth.composition[np.argsort(order)]
    )
    table = reported_intervals(result, named)
    table = table[(table.quantity == "composition") & table.inside.notna()]
    inside = [table[table.phase == result.phases[k]].inside.astype(bool) for k in order]
    mean = result.abundances()["mean"].transpose("y", "x", "phase").values[..., order]
    return Judged(
        angle[np.arange(n_phases), order],
        np.array([float(column.sum()) for column in inside]),
        np.array([float(len(column)) for column in inside]),
        np.sqrt(((mean - truth.abundances) ** 2).mean(axis=(0, 1))),
        float(sum(result.record.timings.values())),
    )


def _matched(angle: FloatArray) -> npt.NDArray[np.int64]:
    """Found phase of each true one."""
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(angle)[1])


def _config(*, filled: bool) -> RunConfig:
    """Return the phantom, with grains that fill the map where asked."""
    config = phantom("laplace")
    assert config.simulate is not None
    config = dataclasses.replace(
        config, simulate=dataclasses.replace(config.simulate, shape=SHAPE, counts_per_pixel=COUNTS)
    )
    if not filled:
        return config
    return dataclasses.replace(
        config,
        phases=tuple(dataclasses.replace(phase, matrix=False) for phase in config.phases),
        simulated_phases=tuple(
            dataclasses.replace(phase, fraction=fraction)
            for phase, fraction in zip(config.simulated_phases, FILLED, strict=True)
        ),
    )


def _untold(config: RunConfig) -> RunConfig:
    """Return the configuration without what is declared absent and without stoichiometry."""
    phases = tuple(dataclasses.replace(phase, absent=(), stoichiometry=None) for phase in config.phases)
    return dataclasses.replace(config, phases=phases)


def _row(title: str, name: str, runs: list[Judged], *, pinned: int) -> Row:
    """One model on one kind of map; what the first `pinned` phases are asked for, which pure pixels pin."""
    angle, rmse = (np.mean([getattr(run, field) for run in runs], axis=0) for field in ("angle_deg", "rmse"))
    held, of = (np.sum([getattr(run, field) for run in runs], axis=0) for field in ("held", "of"))
    share = held[:pinned].sum() / of[:pinned].sum()
    said = [
        ", ".join(f"{value:{form}}" for value in values) for values, form in ((angle, ".1f"), (rmse, ".3f"))
    ]
    counted = ", ".join(f"{h:.0f}/{o:.0f}" for h, o in zip(held, of, strict=True))
    measured = (
        f"angle {said[0]}°; map rmse {said[1]}; compositions held {counted}; "
        f"{np.mean([run.seconds for run in runs]):.0f} s"
    )
    asked = f"coverage of what pure pixels pin at least {LEAST_PINNED}"
    return Row(f"{title}, {name}: by phase", asked, measured, bool(share >= LEAST_PINNED))
