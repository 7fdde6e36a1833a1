# %% [markdown]
# # From the file to the Onuma diagram
#
# A map of pyrolite recrystallised at 71 GPa, with about 0.3 wt% each of Nd, Sm, Lu, Hf and U added: bridgmanite (Brg),
# ferropericlase (Fp) and Ca-perovskite (CaPv), 201 x 201 pixels of 108 counts. This page follows it from the file to the
# figures of a paper, wrong turns included: what the program warns of, what one does then, and what stays open.
#
# The cells run in Jupyter, VS Code or Spyder. As a script:
#
#     python examples/real_map_percent.py --map map.hspy --out pictures
#
# Without `--map` a map of known truth is simulated first: the same phases, and a grain that nobody declares.

# %%
from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import xarray as xr

import bayesunmix as bu
from bayesunmix.config import SimulatedPhase
from bayesunmix.inspection import inspect_map
from bayesunmix.paper import paper_tables
from bayesunmix.phantom import phantom_config
from bayesunmix.rounding import interval_text
from bayesunmix.stoichiometry import site_weights
from bayesunmix.units import convert, with_oxygen

# %% tags=["remove-cell"]
parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--map", type=Path, help="any file that HyperSpy reads as a spectrum image")
parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for figures and results")
parser.add_argument("--method", choices=("nuts", "laplace"), default="laplace")
parser.add_argument("--size", type=int, default=64, help="pixels along the sides of the simulated map")
parser.add_argument("--draws", type=int, default=500, help="posterior draws in each of two chains")
# A notebook has arguments of its own.
chosen, _ = parser.parse_known_args()
chosen.out.mkdir(parents=True, exist_ok=True)


def show(figure: matplotlib.figure.Figure, name: str) -> matplotlib.figure.Figure:
    """Save a figure, and return it for the notebook to show."""
    figure.savefig(chosen.out / f"{name}.png", dpi=150)
    return figure


def show_table(frame: pd.DataFrame) -> None:
    """Print a table in Markdown; numbers that are no text yet get three digits."""

    def text(cell: object) -> str:
        return f"{cell:.3g}" if isinstance(cell, float) else str(cell)

    lines = [list(frame.columns), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    print("\n".join("| " + " | ".join(map(text, line)) + " |" for line in lines), end="\n\n")


def simulated_map(path: Path) -> dict[str, float]:
    """Write a map of the embedded phantom with 1 % of silica in it; return what went in, in weight per cent."""
    phantom = phantom_config()
    plan, (brg, *others) = phantom.truth()
    declared = (*phantom.phases, bu.Phase("SiO2"))
    truth = (dataclasses.replace(brg, fraction=brg.fraction - 0.01), *others)
    truth += (SimulatedPhase("SiO2", {"Si": 0.99, "Al": 0.01}, 0.01),)
    size = dataclasses.replace(plan, shape=(chosen.size, chosen.size))
    config = dataclasses.replace(phantom, phases=declared, simulated_phases=truth, simulate=size)
    simulated = bu.simulate.simulate_map(config, seed=0)
    simulated.to_signal().save(str(path), overwrite=True)
    found = simulated.truth
    atoms = xr.DataArray(
        found.abundances.mean(axis=(0, 1)) @ found.composition, {"element": list(found.elements)}
    )
    weights = convert(with_oxygen(atoms), "wt_pct")
    return {name: float(weights.sel(element=name)) for name in ("Nd", "Sm", "Lu", "Hf", "U")}


# Pyrolite, and what was added to it.
pyrolite = {"SiO2": 45.0, "Al2O3": 4.45, "FeO": 8.05, "MgO": 37.8, "CaO": 3.55}
bulk = {oxide: 0.982 * weight for oxide, weight in pyrolite.items()}
bulk |= dict.fromkeys(("Nd", "Sm", "Lu", "Hf", "U"), 0.3)
path = chosen.map
if path is None:
    path = chosen.out / "simulated.hspy"
    bulk = simulated_map(path)

# %% [markdown]
# ## 1. What the file holds
# Axis, acquisition facts, and the peaks of the sum spectrum with the elements they may belong to. Elements of the
# sample go to `elements`; grid, ion beam and column go to `stray`. An element that is in neither list has its photons
# explained by others.

# %%
print(inspect_map(path))

# %% [markdown]
# ## 2. What is known
# No pixel is pure Fp or pure CaPv, so the counts alone do not fix the spectra of these phases. What fixes them is
# declared, and is part of the result: Fp holds no Si and no Ca, CaPv no Mg, and Brg is the matrix, with a perovskite's
# sites. Cu, Ga, Pt and Zr come from grid, ion beam and column.
#
# Fe³⁺ / all Fe of bridgmanite was not measured. 0.5 ± 0.2 is an assumption; only formulas, oxides and Mg# feel it. `bulk`
# is what went in, in weight per cent: 0.3 of each dopant, and for the major elements the pyrolite model of McDonough and
# Sun (1995, doi:10.1016/0009-2541(94)00140-4), since the composition of this very mixture is not known to us.

# %%
elements = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]
brg = bu.Phase("Brg", matrix=True, stoichiometry="ABO3")
fp = bu.Phase("Fp", absent=["Si", "Ca"])
capv = bu.Phase("CaPv", absent=["Mg"])


def unmix(image: bu.SpectrumImage, phases: list[bu.Phase]) -> bu.Result:
    """Unmix the map with these phases declared; all else is common to the runs of this page."""
    return bu.unmix(
        image,
        elements=elements,
        phases=phases,
        stray=["Cu", "Ga", "Pt", "Zr"],
        method=chosen.method,
        seed=0,
        map={"energy_range": [1.0, 19.9]},
        sample={"thickness_nm": [100, 30], "density_g_cm3": [4.2, 0.3], "bulk_wt_pct": bulk},
        output={
            "units": ["oxide_wt_pct", "apfu"],
            "oxygens": {phase.name: {"Fp": 1, "SiO2": 2}.get(phase.name, 3) for phase in phases},
            "ferric": {"Brg": [0.5, 0.2]},
        },
        inference={"draws": chosen.draws, "warmup": chosen.draws},
    )


image = bu.load(path)
first = unmix(image, [brg, fp, capv])
print(first)

# %% [markdown]
# ## 3. May it be trusted?
# The diagnostics of the computation come first, then what the run warns of. Here the computation is in order, and three
# warnings say that the *model* is not: parts of the map differ, which made the program widen the intervals; there are
# places that no mixture of the three phases explains; and another solution fits nearly as well.

# %%
print("\n".join(first.problems) or "No problems.")
for warning in first.run["warnings"]:
    print(f"- {warning}")

# %% [markdown]
# The fit of the total spectrum is good but not perfect: with 4.4 million counts, lines that are off by a per cent show.
# Orange bands mark the regions beyond the threshold; the report lists them with their likely causes.

# %%
print(
    f"deviance per degree of freedom of the total spectrum: {first.run['fit']['deviance_per_dof_total']:.2f}"
)
show(first.plot.fit(), "fit")

# %% [markdown]
# The misfit map shows where: one small grain with a thread behind it, far above the threshold. It has too much Si and too
# little of all else. That is silica, and nobody declared it.

# %%
show_table(
    pd.DataFrame(
        {
            "row": round(place["y"]),
            "column": round(place["x"]),
            "pixels": place["pixels"],
            "sigma": round(place["sigma"]),
            "too much": ", ".join(place["excess"]) or "–",
            "too little": ", ".join(place["lacking"]) or "–",
        }
        for place in first.run["misfit"]
    )
)
show(first.plot.misfit(), "misfit")

# %% [markdown]
# **Other solutions.** The search ends in several modes. Those that differ from the best one, how many nats worse they
# explain the map, and what they make of CaPv:


# %%
def modes(result: bu.Result) -> pd.DataFrame:
    """Best mode, and those others that were followed to their end."""
    found = result.run["starts"]
    shown = [found[0], *(mode for mode in found[1:] if mode["followed"] and not mode["same_mode"])]
    k, si, ca = result.phases.index("CaPv"), elements.index("Si"), elements.index("Ca")
    return pd.DataFrame(
        {
            "nats worse": f"{mode['objective']:.0f}",
            "Si in CaPv, at%": 100.0 * mode["composition"][k][si],
            "Ca in CaPv, at%": 100.0 * mode["composition"][k][ca],
        }
        for mode in shown
    )


show_table(modes(first))

# %% [markdown]
# **What pins each composition?** For every number the run says which declaration holds it, and how uncertain it would be
# without. Si of CaPv hangs on what is declared of CaPv; a few nats in 4.4 million counts, where the model is known to miss
# a phase, decide nothing.

# %%
pins = first.identifiability()
pins = pins[pins["element"].isin(["Mg", "Si", "Ca"]) & (pins["at_frac"] > 0.01)]
show_table(
    pd.DataFrame(
        {
            "": pins["element"] + " in " + pins["phase"],
            "at%": 100.0 * pins["at_frac"],
            "sd (nominal lines)": 100.0 * pins["sd"],
            "pinned by": pins["pinned_by"].replace("", "the counts"),
            "sd without": 100.0 * pins["sd_without"],
        }
    )
)
for direction in first.run["identifiability"]["flat_directions"][:1]:
    print(
        f"Flattest direction: unknown abundances leave {100 * direction['kept']:.0f} % of the information; "
        f"it moves {direction['element']} in {direction['phase']} most."
    )

# %% [markdown]
# ## 4. A fourth phase, and what it does
# The obvious step is to declare the silica. It holds Si and perhaps some Al, none of the others.

# %%
silica = bu.Phase("SiO2", absent=["Mg", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"])
fourth = unmix(image, [brg, fp, capv, silica])
show(fourth.plot.maps(), "maps_four_phases")

# %% [markdown]
# The grain is there, and CaPv has changed its mind. But look at the rest of the silica map: a few per cent
# of it everywhere in bridgmanite, and none in the grains of Fp. MgO + SiO2 = MgSiO3: with Fp and SiO2 both declared, bridgmanite is a
# mixture of two other phases. The counts cannot tell bridgmanite from a Mg-richer one with a veil of silica, and a soft
# prior on its sites was outvoted. This is seen in a check that any user can make: the site ratio, A / B in ABO3, far from 1.
#
# What was left unsaid is that CaPv is a perovskite, too. And silica need not be unmixed at all: it lies in one place, and
# a map without these rows needs three phases only.


# %%
def without_silica(image: bu.SpectrumImage, places: list[dict], margin: int = 10) -> bu.SpectrumImage:
    """Leave out the rows that hold places with too much Si, and what lies on the smaller side of them."""
    rows = [place["y"] for place in places if "Si" in place["excess"]]
    if not rows:
        return image
    above, below = max(int(min(rows)) - margin, 0), min(int(max(rows)) + margin, image.shape[0])
    kept = image.counts[:above] if above >= image.shape[0] - below else image.counts[below:]
    return dataclasses.replace(image, counts=kept)


perovskite = bu.Phase("CaPv", absent=["Mg"], stoichiometry="ABO3")
runs = {
    "three phases": first,
    "and SiO2": fourth,
    "and SiO2, CaPv as ABO3": unmix(image, [brg, fp, perovskite, silica]),
    "no silica rows, CaPv as ABO3": unmix(without_silica(image, first.run["misfit"]), [brg, fp, perovskite]),
}

# %% [markdown]
# A quantity of your own is a function of the draws. Here the site ratio
# (Mg + Fe + Ca + traces + Al/2) / (Si + Al/2), for all four runs beside what they say of CaPv:


# %%
def site_ratio(result: bu.Result, phase: str) -> str:
    """Cations of the large site over those of the small one, with the interval."""
    sites = site_weights("ABO3", result.elements)
    assert sites is not None
    draws = result.composition().sel(phase=phase).values.reshape(-1, len(result.elements))
    lower, median, upper = np.quantile((draws @ sites.a) / (draws @ sites.b), [0.025, 0.5, 0.975])
    return interval_text(median, lower, upper)


def fraction(result: bu.Result, phase: str, element: str) -> str:
    """Atom per cent of an element, mean and interval."""
    row = result.summary().set_index(["phase", "element"]).loc[(phase, element)]
    return interval_text(*(100.0 * row[name] for name in ("mean", "lower", "upper")))


def ratio(result: bu.Result, element: str) -> str:
    """D between CaPv and Brg."""
    rows = result.partition_table().set_index(["element", "numerator", "denominator"])
    row = rows.loc[(element, "CaPv", "Brg")]
    return interval_text(row["median"], row["lower"], row["upper"]) if row["kind"] == "interval" else "–"


show_table(
    pd.DataFrame(
        {
            "": name,
            "site ratio of Brg": site_ratio(run, "Brg"),
            "Si in CaPv, at%": fraction(run, "CaPv", "Si"),
            "Ca in CaPv, at%": fraction(run, "CaPv", "Ca"),
            "D(Nd)": ratio(run, "Nd"),
            "D(U)": ratio(run, "U"),
            "largest misfit, σ": f"{run.run['misfit_search']['largest']:.0f}",
            "next mode, nats": ", ".join(modes(run)["nats worse"][1:2]) or "–",
        }
        for name, run in runs.items()
    )
)

# %% [markdown]
# What was declared moves D(U) by more than any interval of the first run says. The last run has no phase that is a mixture
# of others, both perovskites are declared as such, nothing stands out by much, and the bridgmanite has the sites of a
# bridgmanite. It is used from here on. The third run, with all rows and the silica unmixed, says the same of CaPv within
# intervals, which is as much of a second opinion as one map can give.

# %%
result = runs["no silica rows, CaPv as ABO3"]
print("\n".join(result.problems) or "No problems.")
for warning in result.run["warnings"]:
    print(f"- {warning}")

# %%
show_table(result.diagnostics().sort_values("ess_bulk").head(4))

# %% [markdown]
# ## 5. Where the phases are
# Means above, standard deviations below, in shares of atoms.

# %%
show(result.plot.maps(), "maps")

# %% [markdown]
# ## 6. What they are made of
# The endmember spectra are those of pure phases, which no pixel shows.

# %%
show(result.plot.spectra(), "spectra")

# %%
show(result.plot.compositions(), "compositions")

# %% [markdown]
# The same draws in other units. Every transformation is done draw by draw, and numbers have the digits that their
# intervals support.

# %%
tables = {table.name: table for table in paper_tables(result)}
for unit in ("at_frac", "oxide_wt_pct", "apfu"):
    print(tables[f"composition_{unit}"].markdown())

# %% [markdown]
# Formulas are checks as far as they were not declared. Charge and vacancies take the valences as given; Mg# is
# 100 Mg / (Mg + Fe²⁺), so that of bridgmanite carries the assumed share of ferric iron.

# %%
print(tables["sites"].markdown())

# %% [markdown]
# ## 7. How elements are shared
# Calibration errors of an element are common to all phases and cancel to first order in these ratios: the second column
# of each pair is the interval with nominal line strengths, what counting and unmixing alone leave open. A ratio is an interval
# only where both amounts are resolved from zero; else it is a bound, or nothing.

# %%
show(result.plot.partition(), "partition")

# %%
print(tables["partition_atoms"].markdown())
print(tables["exchange"].markdown())

# %% [markdown]
# ## 8. Mass balance
# The phases with their shares in the map, added up, against what went in:

# %%
print(tables["mass_balance"].markdown())

# %% [markdown]
# Two things tell causes apart. One is where an element sits: a map with too much of one phase has too much of what that
# phase holds.

# %%
print(tables["budget"].markdown())

# %% [markdown]
# The other is whether the answer hangs on the unmixing. Recovered / given in all four runs:


# %%
def recovered(result: bu.Result) -> dict[str, str]:
    """Recovered over given, with the interval."""
    rows = result.mass_balance().dropna(subset=["given"]).itertuples()
    return {row.element: interval_text(row.ratio, row.ratio_lower, row.ratio_upper) for row in rows}


show_table(pd.DataFrame({"": name, **recovered(run)} for name, run in runs.items()))

# %% [markdown]
# @mass balance@

# %% [markdown]
# ## 9. Where the uncertainty comes from
# Major elements of bridgmanite hang on calibration: measured k-factors would help, more counts would not. Partition
# coefficients hang on counting and unmixing, since calibration cancels: more counts would help there.

# %%
show(result.plot.budget(), "budget")

# %% [markdown]
# ## 10. Onuma diagram
# D between CaPv and Brg over ionic radius, charge by charge, with the lattice strain model where a charge has three
# elements with an interval. The temperature of the experiment is not in the file; 2500 K is assumed, and the fitted
# modulus is proportional to it.

# %%
diagram = result.onuma("CaPv", "Brg", temperature_K=2500)
print("\n".join(diagram.notes))
show_table(diagram.parameters().drop(columns=["level", "divergences"]))
show(diagram.plot(), "onuma")

# %% [markdown]
# @onuma@

# %% [markdown]
# ## 11. Tables and figures for a paper
# `save` writes everything: tables as CSV, LaTeX and Markdown, figures as PNG and PDF, the report, HyperSpy signals and
# the posterior for ArviZ. On the command line `bayesunmix report DIR` and `bayesunmix tables DIR` write figures and tables
# again.

# %%
begun = time.perf_counter()
folder = result.save(chosen.out / "result", overwrite=True)
print(f"{len(list(folder.rglob('*.*')))} files in {time.perf_counter() - begun:.1f} s")
print("\n".join(sorted(path.name for path in (folder / "tables").glob("*.tex"))))

# %% [markdown]
# And the paragraph for the methods section:

# %%
print((folder / "tables" / "methods.md").read_text(encoding="utf-8"))
