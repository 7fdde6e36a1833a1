"""Maps from espm's own simulator: another continuum, widths linear in energy, no tails; with five traces.

The abundances are those of the 71 GPa sample, two of whose three phases are pure nowhere, and each phase has Nd, Sm,
Lu, Hf and U from 100 to 3000 atomic ppm of its cations, drawn on a log scale. In every map espm's simulator has another
continuum for each phase and other peak widths. The inference is told its line table, and nothing of the rest: it is
judged by what its intervals hold, and by what it says of the misfit.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from bench import Options, Row, last_line, run_program
from detection import TRACES, with_traces
from grown_phantom import ABUNDANCES, measured_abundances
from phantom_coverage import overall_row, phantom, show

from bayesunmix.laboratory.maps import Findings, gathered, kept_maps, reported_intervals

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.data.image import SpectrumImage
    from bayesunmix.simulation.simulate import KnownComposition

WORKER = Path(__file__).resolve().parent / "espm_maps_worker.py"
TABLE = "espm_lines_200keV.json"
MAPS = (10, 2)
LEAST = 0.93
LEAST_PPM, MOST_PPM = 100.0, 3000.0
COUNTS = 108.0
# Counts of a pixel of each phase alone, relative; those of espm's own phantom of this sample.
DENSITIES = (0.8, 1.2, 1.0)
# Parameters of the continuum of each phase in espm's paper, and how far they are varied (log sd).
CONTINUUM = ((3.458e-4, 6.268e-4), (1.629e-4, 9.812e-4), (7.853e-4, 3.658e-4))
CONTINUUM_SD = 0.3
# Widths in keV at no energy, and per keV: about those of detectors of 115 to 140 eV at Mn K.
INTERCEPT_KEV, SLOPE = (0.055, 0.072), (0.009, 0.012)
COPPER = 0.05
TAKEOFF_DEG = 22.0
KEPT_OF_RECORD = ("fit", "discrepancy")


@dataclass(frozen=True)
class Look:
    """Draws a map by espm's simulator, unmixes it and puts the intervals beside the truth.

    Parameters
    ----------
    data
        Folder of abundances and line table.
    espm_python
        Interpreter of espm's environment.
    folder
        Where its program reads and writes.
    """

    data: Path
    espm_python: Path
    folder: Path

    def __call__(self, seed: int) -> Findings:
        """Return the intervals of one map, and what the run says of the misfit."""
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        image, truth = self.drawn(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            result = run_image(image, told(self.data), None, seed=seed, progress=False)
        record = result.record.to_dict()
        facts = {name: record[name] for name in KEPT_OF_RECORD if name in record}
        return Findings(reported_intervals(result, truth), result.problems, facts)

    def drawn(self, seed: int) -> tuple[SpectrumImage, KnownComposition]:
        """Draw the map of a seed.

        Raises
        ------
        RuntimeError
            If espm's program ends with an error.
        """
        from bayesunmix.data.acquisition import Acquisition
        from bayesunmix.data.image import SpectrumImage
        from bayesunmix.simulation.simulate import KnownComposition
        from bayesunmix.xray.absorption import oxygen_per_cation

        rng = np.random.default_rng([seed, 29])
        elements = tuple(phantom("laplace").sample.elements)
        phases, atoms = [], []
        for number, phase in enumerate(phantom("laplace").simulated_phases):
            ppm = np.exp(rng.uniform(np.log(LEAST_PPM), np.log(MOST_PPM), len(TRACES)))
            cations = with_traces(phase, dict(zip(TRACES, (1e-6 * ppm).tolist(), strict=True))).composition
            oxygen = sum(x * oxygen_per_cation(element) for element, x in cations.items())
            b0, b1 = np.array(CONTINUUM[number]) * np.exp(rng.normal(0.0, CONTINUUM_SD, 2))
            given = {**cations, "O": oxygen, "Cu": COPPER * (1.0 + oxygen)}
            phases.append({"elements_dict": given, "b0": float(b0), "b1": float(b1)})
            atoms.append([cations.get(element, 0.0) for element in elements])
        spectra, energy = self._spectra(seed, phases, rng.uniform(*INTERCEPT_KEV), rng.uniform(*SLOPE))
        abundance = measured_abundances(self.data)
        mean = (abundance * np.array(DENSITIES)) @ spectra
        counts = rng.poisson(mean * (COUNTS / mean.sum(axis=2).mean())).astype(np.uint16)
        facts = Acquisition(
            beam_energy_keV=200.0, takeoff_angle_deg=TAKEOFF_DEG, resolution_eV=130.0, microscope="TEM"
        )
        image = SpectrumImage(counts=counts, energy_keV=energy, acquisition=facts, name=f"espm_{seed}")
        names = tuple(phase.name for phase in phantom("laplace").simulated_phases)
        composition = np.array(atoms)
        return image, KnownComposition(names, elements, composition / composition.sum(axis=1, keepdims=True))

    def _spectra(self, seed: int, phases: list[dict[str, Any]], intercept: float, slope: float) -> Any:  # noqa: ANN401
        """Spectra of the phases and the energies of the channels, by espm."""
        model = {
            "e_offset": 0.2,
            "e_size": 1980,
            "e_scale": 0.01,
            "width_slope": slope,
            "width_intercept": intercept,
            "db_name": "200keV_xrays.json",
            "E0": 200,
            "params_dict": {
                "Abs": {"thickness": 1e-5, "toa": TAKEOFF_DEG, "density": 4.5, "atomic_fraction": False},
                "Det": "SDD_efficiency.txt",
            },
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        job, found = self.folder / f"job_{seed}.json", self.folder / f"found_{seed}.npz"
        job.write_text(json.dumps({"model": model, "phases": phases}), encoding="utf-8")
        program = run_program((self.espm_python.absolute(), WORKER, job, found))
        if program.code != 0:
            raise RuntimeError(f"espm: exit {program.code}, {last_line(program.stderr)}")
        with np.load(found) as stored:
            return stored["spectra"], stored["energy_keV"]


def told(data: Path) -> RunConfig:
    """Return what the inference is told: the declarations of the README, and espm's line table."""
    from bayesunmix.config.run_config import RunConfig

    declared = phantom("laplace")
    phases = [
        {"name": "Brg", "matrix": True, "stoichiometry": "ABO3"},
        {"name": "Fp", "absent": ["Si", "Ca"]},
        {"name": "CaPv", "absent": ["Mg"]},
    ]
    return RunConfig.from_dict(
        {
            "map": {"energy_range": [1.0, 19.9]},
            "sample": {
                "elements": list(declared.sample.elements),
                "stray": ["Cu"],
                "thickness_nm": [100.0, 30.0],
                "density_g_cm3": [4.5, 0.3],
            },
            "xray": {"table": str(data / TABLE)},
            "phases": phases,
            "inference": {"method": "laplace"},
        }
    )


def rows(options: Options) -> list[Row]:
    """Rows of what the intervals hold, and of what the misfit added to them."""
    what = "maps of espm's simulator"
    if options.espm_python is None:
        return [Row(what, "", "not run: give the Python of an environment with espm by --espm-python", None)]
    seeds = range(MAPS[1] if options.quick else MAPS[0])
    data = options.file(ABUNDANCES).parent
    folder = options.work / "espm_maps"
    look = Look(data, options.espm_python, options.work / "espm_maps_drawn")
    maps = kept_maps(look, seeds, folder, {"maps": "espm_maps"}, options.processes)
    table, failures = gathered(maps)
    title = f"{len(seeds)} {what}"
    show(title, table)
    found = []
    traces = table["element"].isin(TRACES)
    for quantity, plural in (("composition", "compositions"), ("partition", "partition coefficients")):
        chosen = table["quantity"] == quantity
        found += [
            overall_row(f"{title}: {plural}", table[chosen], LEAST),
            overall_row(f"{title}: {plural} of traces", table[chosen & traces], LEAST),
        ]
    facts = [kept.findings.facts or {} for kept in maps if kept.findings is not None]
    suspect = sorted({failure.split(":")[0] for failure in failures})
    return [*found, *misfit_rows(title, facts), Row(f"{title}: not to be trusted", "", f"{suspect}")]


def misfit_rows(title: str, facts: list[dict[str, Any]]) -> list[Row]:
    """Rows of the deviance, and of how much the misfit added to what counting and unmixing leave open."""
    deviance = [fact["fit"]["deviance_per_dof_total"] for fact in facts]
    found = [Row(f"{title}: deviance per degree of freedom", "", ", ".join(f"{one:.2f}" for one in deviance))]
    effects = pd.DataFrame([one for fact in facts for one in fact["discrepancy"].get("quantities", [])])
    if len(effects):
        wider = effects.groupby(["phase", "element"], sort=False)["sd_ratio"].median()
        said = ", ".join(f"{element} in {phase} {ratio:.2f}" for (phase, element), ratio in wider.items())
        found.append(Row(f"{title}: median sd with misfit over that without", "", said))
    return found
