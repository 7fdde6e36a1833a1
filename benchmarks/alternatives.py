"""Whether the true declaration of a map comes first, and what the counts cannot tell apart is left together.

Maps of 64 x 64 pixels and 108 counts of the embedded phantom's phases, or of an alloy. Line strengths and thickness are
off by draws of their priors. Each is unmixed as it was drawn, without what was declared of a formula or a matrix, with
a phase more, and wrongly: with an element declared absent that is there, with a phase fewer, and with another matrix.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from bench import Options, Row
from phantom_coverage import phantom
from verdict import alloy

from bayesunmix.laboratory.maps import Findings, KeptMap, kept_maps
from bayesunmix.simulation.simulate import simulate_map

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig

SHAPE, COUNTS = (64, 64), 108.0
MANY, FEW = 10, 1
TRUE = "as drawn"
# What the counts cannot tell from the truth, and what they must.
INDIFFERENT = ("less declared", "a phase more")
FALSE = ("an element wrongly absent", "a phase fewer", "another matrix")
# One true declaration in forty may be said to predict worse than another one.
LEAST_TRUE, LEAST_FALSE = 0.9, 0.9


def variants(config: RunConfig) -> dict[str, RunConfig]:
    """Return what a map is unmixed with, by the name of the declaration; the first phase is the matrix."""
    from bayesunmix.config.run_config import RunConfig

    plain = {key: table for key, table in config.to_dict().items() if key != "simulate"}
    held = [dict(phase.get("composition", {})) for phase in plain["phases"]]
    phases = [
        {key: value for key, value in phase.items() if key not in ("composition", "fraction")}
        for phase in plain["phases"]
    ]
    second = sorted(held[1], key=lambda element: -held[1][element])[1]
    absent = [*phases[1].get("absent", ()), second]
    matrix = [{key: value for key, value in phase.items() if key != "matrix"} for phase in phases]
    loose = [{key: value for key, value in phase.items() if key != "stoichiometry"} for phase in phases]
    tables = {
        TRUE: phases,
        "less declared": loose,
        "a phase more": [*phases, {"name": "another"}],
        "an element wrongly absent": [phases[0], {**phases[1], "absent": absent}, *phases[2:]],
        "a phase fewer": phases[:-1],
        "another matrix": [matrix[0], {**matrix[1], "matrix": True}, *matrix[2:]],
    }
    return {name: RunConfig.from_dict({**plain, "phases": table}) for name, table in tables.items()}


def rows(options: Options) -> list[Row]:
    """Rows of both chemistries."""
    found: list[Row] = []
    for what, config in (("bridgmanite", phantom("laplace")), ("superalloy", alloy())):
        folder = options.work / "alternatives" / what
        study = {"what": what, "shape": SHAPE, "counts": COUNTS}
        seeds = range(FEW if options.quick else MANY)
        found += _rows(what, kept_maps(Look(config), seeds, folder, study, options.processes))
    return found


def _rows(what: str, maps: list[KeptMap]) -> Iterator[Row]:
    """Rows of one chemistry: how often each declaration is said to predict worse."""
    broken = [kept.failure for kept in maps if kept.findings is None]
    if broken:
        yield Row(f"{what}: maps that finish", f"{len(maps)}", "; ".join(broken), False)
    tables = [
        pd.DataFrame((kept.findings.facts or {})["ranking"]) for kept in maps if kept.findings is not None
    ]
    if not tables:
        return
    joined = pd.concat(tables)
    for name, own in joined.groupby("result", sort=False):
        worse = int((own["standing"] == "worse").sum())
        lacks = f"{own['difference'].median():.0f} ± {own['difference_se'].median():.0f}"
        text = f"{worse} of {len(own)}; log density {lacks}"
        asked, holds = "", None
        if name == TRUE:
            asked, holds = f"at most {1 - LEAST_TRUE:.1g}", worse <= (1 - LEAST_TRUE) * len(own)
        elif name in FALSE[:2]:
            asked, holds = f"at least {LEAST_FALSE:g}", worse >= LEAST_FALSE * len(own)
        yield Row(f"{what}, {name}: said to predict worse", asked, text, holds)
    unreliable = joined["unreliable_areas"] / joined["areas"]
    yield Row(f"{what}: areas with a Pareto k that forbids trust", "", f"{unreliable.mean():.3f}")


@dataclass(frozen=True)
class Look:
    """Draws the map of a seed, unmixes it by every declaration, and ranks the runs."""

    config: RunConfig

    def __call__(self, seed: int) -> Findings:
        """Return the ranking of one map."""
        from bayesunmix.analysis.comparison import compare
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        assert self.config.simulate is not None
        plan = dataclasses.replace(self.config.simulate, shape=SHAPE, counts_per_pixel=COUNTS)
        image = simulate_map(dataclasses.replace(self.config, simulate=plan), seed).image
        runs = variants(self.config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            results = [run_image(image, config, None, seed=seed, progress=False) for config in runs.values()]
            comparison = compare(results, names=list(runs))
        agreed = comparison.tables.agreement().drop_duplicates("quantity")
        facts: dict[str, Any] = {
            "seed": seed,
            "ranking": comparison.tables.ranking().to_dict("records"),
            "agreed": int(agreed["agree"].sum()),
            "quantities": len(agreed),
        }
        standings = comparison.tables.ranking().set_index("result")["standing"] == "worse"
        right = [not standings[TRUE], *(bool(standings[name]) for name in FALSE[:2])]
        return Findings(pd.DataFrame({"inside": right}), (), facts)
