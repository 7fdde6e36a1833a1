"""Which of the rotated solutions the 71 GPa map prefers, and what the matrix's cation sites are without being told.

The map is unmixed with the stoichiometry of the matrix left undeclared: with pairs of phases and with three in a
pixel, with thickness acting on absorption and without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from bench import Options, Row
from real_map import CONFIG, MAP

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

MATRIX, FORMULA = "Brg", "ABO3"
SITE_RATIO = (0.95, 1.05)
# Elements whose cation per cents tell the solutions apart.
SHOWN = ("Mg", "Al", "Si", "Ca", "Fe")


def rows(options: Options) -> list[Row]:
    """Rows of the site ratio and of the modes."""
    found = []
    for overlap in (2, 3):
        for thickness in (True, False):
            result = unmix(options, overlap, thickness=thickness)
            what = f"{overlap} phases in a pixel, {'with' if thickness else 'without'} thickness"
            ratio = site_ratio(result)
            low, middle, high = (float(end) for end in np.quantile(ratio, [0.025, 0.5, 0.975]))
            asked = f"{SITE_RATIO[0]} to {SITE_RATIO[1]}" if overlap == 2 and thickness else ""
            holds = SITE_RATIO[0] <= middle <= SITE_RATIO[1] if asked else None
            measured = f"{middle:.3f} [{low:.3f}, {high:.3f}]"
            found.append(
                Row(f"{what}: site ratio of {MATRIX}, no stoichiometry declared", asked, measured, holds)
            )
            found.append(
                Row(f"{what}: modes by nats, cation % of {' '.join(SHOWN)}", "", modes(result), None)
            )
            told = result.record.pixel_thickness
            if thickness and told is not None:
                scale = f"{told.absorption_scale:.2f} ± {told.absorption_scale_sd:.2f}"
                found.append(Row(f"{what}: scale of the counts as a thickness", "", scale, None))
            print(f"  {what}: done", flush=True)
    return found


def unmix(options: Options, overlap: int, *, thickness: bool) -> Result:
    """Unmix the map without telling the matrix's stoichiometry."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.data.io import load
    from bayesunmix.pipeline import run_image

    example = RunConfig.from_toml(CONFIG)
    config = dataclasses.replace(
        example,
        phases=tuple(dataclasses.replace(phase, stoichiometry=None) for phase in example.phases),
        inference=dataclasses.replace(example.inference, method="laplace", max_overlap=overlap),
    )
    with warnings.catch_warnings(), contextlib.nullcontext() if thickness else evenly_thick():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        image = load(options.file(MAP), takeoff_angle_deg=config.instrument.takeoff_angle_deg)
        return run_image(image, config, None, seed=0, progress=False)


@contextlib.contextmanager
def evenly_thick() -> Iterator[None]:
    """Take the film for even while this lasts: no absorption and no stray signal that go with thickness."""
    from bayesunmix.fit import preparation

    whole = preparation.pixel_thickness

    def none(*arguments: object) -> object:
        found = whole(*arguments)  # type: ignore[arg-type]
        nothing = 0.0 * found.absorption_slope
        return dataclasses.replace(found, absorption_slope=nothing, stray_share=nothing)

    preparation.pixel_thickness = none  # type: ignore[assignment]
    try:
        yield
    finally:
        preparation.pixel_thickness = whole


def site_ratio(result: Result) -> np.ndarray:
    """Draws of A over B on the matrix's cation sites."""
    from bayesunmix.chemistry.stoichiometry import site_weights

    sites = site_weights(FORMULA, result.elements)
    assert sites is not None
    draws = result.composition().sel(phase=MATRIX).values
    return np.asarray((draws @ sites.a) / (draws @ sites.b)).ravel()


def modes(result: Result) -> str:
    """Write the modes that were compared to their end, the best first."""
    chosen = [result.elements.index(element) for element in SHOWN]
    texts = []
    for start in result.record.starts[:2]:
        phases = [
            f"{phase} " + " ".join(f"{100 * row[i]:.3g}" for i in chosen)
            for phase, row in zip(result.phases, start.composition or (), strict=True)
        ]
        texts.append(f"{start.objective:.0f}: " + ", ".join(phases))
    return "; ".join(texts)
