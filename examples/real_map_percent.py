# %% [markdown]
# # One map from inspection to partition coefficients
#
# Cells for Jupyter, VS Code or Spyder. As a script:
#
#     python examples/real_map_percent.py --map map.hspy --out pictures
#
# Without `--map` a map of known truth is simulated first.

# %%
from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import matplotlib.figure
import numpy as np

import bayesunmix as bu
from bayesunmix.chemistry.stoichiometry import site_weights
from bayesunmix.data.inspection import inspect_map
from bayesunmix.phantom import phantom_config

parser = argparse.ArgumentParser(allow_abbrev=False)
parser.add_argument("--map", type=Path, help="any file that HyperSpy reads as a spectrum image")
parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for the figures")
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


# %% [markdown]
# ## The map
# The simulated one is like a map of pyrolite recrystallised at 71 GPa: bridgmanite as the matrix, ferropericlase and
# Ca-perovskite that are pure in no pixel, five trace elements.

# %%
path = chosen.map
if path is None:
    phantom = phantom_config()
    assert phantom.simulate is not None
    small = dataclasses.replace(phantom.simulate, shape=(chosen.size, chosen.size))
    path = chosen.out / "simulated.hspy"
    simulated = bu.simulate.simulate_map(dataclasses.replace(phantom, simulate=small), seed=0)
    simulated.to_signal().save(str(path), overwrite=True)

# %% [markdown]
# ## What the file holds
# Axis, acquisition facts, and the peaks of the sum spectrum with the elements they may belong to. Elements of the
# sample go to `elements`; grid, ion beam and column go to `stray`. An element that is in neither list has its photons
# explained by others.

# %%
print(inspect_map(path))

# %% [markdown]
# ## What is known
# No pixel is pure ferropericlase or Ca-perovskite, so the counts alone do not fix the spectra of these phases. What
# fixes them is declared, and is part of the result.

# %%
phases = [
    bu.Phase("Brg", matrix=True, stoichiometry="ABO3"),
    bu.Phase("Fp", absent=["Si", "Ca"]),
    bu.Phase("CaPv", absent=["Mg"]),
]
result = bu.unmix(
    bu.load(path),
    elements=["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"],
    phases=phases,
    stray=["Cu", "Ga", "Pt", "Zr"],
    method=chosen.method,
    seed=0,
    sample={"thickness_nm": [100, 30], "density_g_cm3": [4.5, 0.3]},
    inference={"draws": chosen.draws, "warmup": chosen.draws},
)
print(result)

# %% [markdown]
# ## May it be trusted?
# First the diagnostics of the computation, then the fit: residuals far outside ±2 say that lines are missing or that
# the physics is off, whatever the intervals say.

# %%
print("\n".join(result.problems) or "no problems")
print(result.diagnostics().sort_values("ess_bulk").head())
misfit = result.run["fit"]["deviance_per_dof_total"]
print(f"deviance per degree of freedom of the total spectrum: {misfit:.2f}")
show(result.plot.fit(), "fit")

# %% [markdown]
# ## Where the phases are
# Means above, standard deviations below.

# %%
show(result.plot.maps(), "maps")

# %%
show(result.plot.segmentation(), "segmentation")

# %% [markdown]
# ## What they are made of

# %%
show(result.plot.spectra(), "spectra")

# %%
show(result.plot.compositions(), "compositions")

# %% [markdown]
# A quantity of your own is a function of the draws: here the site ratio of bridgmanite,
# (Mg + Fe + Ca + Al/2 + ...) / (Si + Al/2 + ...). It was declared to be near 1, so this is no independent check; leave
# `stoichiometry` out to make it one.

# %%
sites = site_weights("ABO3", result.elements)
assert sites is not None
draws = result.composition().sel(phase="Brg").values.reshape(-1, len(result.elements))
ratio = (draws @ sites.a) / (draws @ sites.b)
lower, median, upper = np.quantile(ratio, [0.025, 0.5, 0.975])
print(f"site ratio of Brg: {median:.3f} [{lower:.3f}, {upper:.3f}]")

# %% [markdown]
# ## How the traces are shared
# Calibration errors of an element are common to all phases and cancel in these ratios.

# %%
table = result.partition_table()
columns = ["element", "median", "lower", "upper", "kind", "prob_above_1"]
print(table[(table.numerator == "CaPv") & (table.denominator == "Brg")][columns].to_string(index=False))
show(result.plot.partition(), "partition")
