"""Compile the usual programs ahead, so that the first map is as quick as the tenth.

What a run compiles depends on the number of phases and on a few sizes that most maps share
(`bayesunmix.models.padding`): a small map that is simulated and unmixed compiles what a real one needs, and the
programs stay in the user's cache folder (`bayesunmix.inference.program_cache`).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.names import METHODS, MethodName
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import check_choice, check_integer
from bayesunmix.core.progress import Reporter
from bayesunmix.simulation.phantom import BRG, CAPV, FP
from bayesunmix.simulation.simulate import simulate_map

# Numbers of phases that most maps have.
USUAL_PHASES = (2, 3, 4)
# Grains of four minerals: names and atom fractions among the cations.
MINERALS = {"Brg": BRG, "Fp": FP, "CaPv": CAPV, "St": {"Al": 0.05, "Si": 0.95}}
# What is compiled depends neither on the number of draws nor on that of pixels.
FEW = InferenceConfig(chains=1, draws=4, warmup=1, starts=1)
SMALL = (32, 32)


class Warmed(NamedTuple):
    """What was made ready.

    Attributes
    ----------
    compiled, kept : int
        Programs that were compiled now, and those that had been before.
    """

    compiled: int
    kept: int


def warm_up(
    phases: Sequence[int] = USUAL_PHASES, methods: Sequence[MethodName] = ("laplace", "nuts")
) -> Warmed:
    """Compile what maps with so many phases need.

    Parameters
    ----------
    phases
        Numbers of phases, from 2 to 4.
    methods
        How the posteriors will be computed.

    Raises
    ------
    InputError
        If a number or a method is none of these.
    """
    from bayesunmix.inference.compilation import counted_programs
    from bayesunmix.pipeline import run_image

    for number in phases:
        check_integer("phases", number, low=2, high=len(MINERALS))
    for method in methods:
        check_choice("method", method, METHODS)
    reporter = Reporter()
    with counted_programs() as ready, warnings.catch_warnings():
        # What is said of so small a map is of no interest.
        warnings.simplefilter("ignore")
        for number in phases:
            config = _config(number)
            image = simulate_map(config, seed=0).image
            for method in methods:
                asked = dataclasses.replace(config, inference=dataclasses.replace(FEW, method=method))
                with reporter.stage(f"{number} phases ({method})"):
                    run_image(image, asked, None, progress=False)
    compiled = sum(program.compiled for program in ready)
    return Warmed(compiled, len(ready) - compiled)


def _config(number: int) -> RunConfig:
    """Return the first so many minerals, with nothing declared of them."""
    chosen = list(MINERALS)[:number]
    return RunConfig.from_dict(
        {
            "sample": {
                "elements": sorted({element for name in chosen for element in MINERALS[name]}),
                "stray": ["Cu"],
                "thickness_nm": [100.0, 30.0],
                "density_g_cm3": [4.5, 0.3],
            },
            "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
            "phases": [
                {"name": name, "composition": MINERALS[name], "fraction": 1.0 / number} for name in chosen
            ],
            "simulate": {"shape": list(SMALL), "counts_per_pixel": 300.0},
        }
    )
