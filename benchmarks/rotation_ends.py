"""Coverage where the truth lies: at either end of what a map leaves open, and between.

Small maps of random chemistries in which one or two kinds of grains overlap with a matrix, of which nothing is declared
but the number of phases. Every kind of grain stands where the prior of rotations has it: some pixel of it is pure; an
element of the matrix is exactly absent from it; or neither, evenly between. Which of the three, the map does not tell:
what a pixel may hold at most is chosen so that the solutions that fit are the same. Line strengths are nominal, and
intervals are those of counting and unmixing alone.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from open_maps import beside

from bayesunmix.laboratory.maps import Findings, gathered, kept_maps

if TYPE_CHECKING:
    from bayesunmix.simulation.simulate import SimulatedMap

ASKED = (0.93, 0.97)
MAPS = (200, 6)
PLACES = ("pure", "absent", "between")
SIDE, COUNTS = 40, 150.0
# Elements that a map's are taken from, and how many.
POOL = ("Mg", "Al", "Si", "S", "K", "Ca", "Ti", "Cr", "Mn", "Fe", "Ni", "Cu")
NUMBER = 6
# The least share of an element in a matrix, and share of the matrix in the purest pixel where nothing is taken out.
LEAST, OPEN = 0.02, (0.25, 0.6)


def rows(options: Options) -> list[Row]:
    """Rows of the share that holds the truth, by where it lies."""
    seeds = range(MAPS[1] if options.quick else MAPS[0])
    facts = {"counts": COUNTS, "side": SIDE, "open": OPEN}
    maps = kept_maps(Look(), seeds, options.work / "rotation_ends", facts, options.processes)
    table, failures = gathered(maps)
    print(f"  {len(failures)} maps fail or say not to trust them", flush=True)
    return ends_rows(table)


def ends_rows(table: pd.DataFrame) -> list[Row]:
    """Rows of one place each: compositions of its grains, and their partition coefficients."""
    found = []
    for place in PLACES:
        for quantity, plural in (("composition", "compositions"), ("partition", "partition coefficients")):
            judged = table[(table["quantity"] == quantity) & (table["place"] == place)]
            inside = judged["inside"].astype(bool)
            share = float(inside.mean())
            what = f"grains that are {place}: {plural} that hold the truth"
            asked = f"{ASKED[0]} to {ASKED[1]}"
            shown = f"{share:.3f} ({inside.sum()} of {len(inside)})"
            found.append(Row(what, asked, shown, ASKED[0] <= share <= ASKED[1]))
    return found


@dataclass(frozen=True)
class Look:
    """Draws a map, unmixes it and puts the intervals of its grains beside the truth."""

    def __call__(self, seed: int) -> Findings:
        """Return the intervals of one map."""
        from bayesunmix.config.run_config import RunConfig
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        simulated, places, told = drawn(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            result = run_image(simulated.image, RunConfig.from_dict(told), None, seed=0, progress=False)
        table = beside(result, simulated)
        # A partition coefficient of two kinds of grains has no one place.
        grain = table["phase"].str.replace("/matrix", "", regex=False)
        return Findings(table.assign(place=grain.map(places))[grain.isin(list(places))], result.problems)


def drawn(seed: int) -> tuple[SimulatedMap, dict[str, str], dict[str, Any]]:
    """Draw a map, where each of its grains lies, and what is declared of it."""
    from bayesunmix.simulation.phantom import grain_layout
    from bayesunmix.simulation.simulate import simulate_map

    rng = np.random.default_rng([seed, 1985])
    n_grains = 1 + seed % 2
    elements = sorted(rng.choice(POOL, NUMBER, replace=False).tolist())
    matrix = _composition(rng)
    places = {
        f"grain {number + 1}": PLACES[(seed + number + seed // 3) % len(PLACES)] for number in range(n_grains)
    }
    compositions, most = [matrix], []
    for place in places.values():
        # As far out as it goes: one element of the matrix is absent.
        end = _composition(rng)
        end[rng.integers(NUMBER)] = 0.0
        end /= end.sum()
        wide = rng.uniform(*OPEN)
        part = {"pure": wide, "absent": 0.0, "between": rng.uniform(0.0, wide)}[place]
        compositions.append((1.0 - part) * end + part * matrix)
        most.append((1.0 - wide) / (1.0 - part))
    fractions = [0.5, *([0.5 / n_grains] * n_grains)]
    abundances = grain_layout((SIDE, SIDE), fractions, [True, *([False] * n_grains)], rng).copy()
    for grain, largest in zip(np.moveaxis(abundances, 2, 0)[1:], most, strict=True):
        grain *= largest / grain.max()
    abundances[..., 0] = 1.0 - abundances[..., 1:].sum(axis=2)
    names = ["matrix", *places]
    told = {
        "sample": {
            "elements": elements,
            "oxygen": "none",
            "thickness_nm": [80.0, 20.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "map": {"energy_range": [1.0, 10.0]},
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 132.0},
        "phases": 1 + n_grains,
        "inference": {"method": "laplace"},
    }
    truth = [
        {
            "name": name,
            "matrix": name == "matrix",
            "fraction": fraction,
            "composition": dict(zip(elements, composition.tolist(), strict=True)),
        }
        for name, composition, fraction in zip(names, compositions, fractions, strict=True)
    ]
    plan = {"shape": [SIDE, SIDE], "counts_per_pixel": COUNTS}
    simulated = simulate_map({**told, "phases": truth, "simulate": plan}, seed, abundances=abundances)
    return simulated, places, told


def _composition(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw atom fractions (element,), none of them small."""
    return LEAST + (1.0 - NUMBER * LEAST) * rng.dirichlet(np.ones(NUMBER))
