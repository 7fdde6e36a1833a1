"""A model of your own on the physics of this package: olivine in a glass, with a published composition as its prior.

    python examples/own_model.py                          # a simulated map, with the truth beside the intervals
    python examples/own_model.py --map map.hspy           # your own map of the same two phases

Olivine is that of San Carlos (Jarosewich, E., Nelen, J. A., Norberg, J. A., Geostand. Newsl. 4 (1980) 43,
doi:10.1111/j.1751-908X.1980.tb00273.x), known here to a third of an atom per cent; of the glass nothing is known.
Blocks of pixels hold shares of both from a Dirichlet distribution, and no block need be pure: it is the published
composition that pins the other one. The simulated map is drawn so. Where grains overlap in other ways than a
Dirichlet distribution says, intervals of so simple a model hold less than they say: the built-in one infers how
phases overlap.
"""

import argparse
from typing import Any

import numpyro
import numpyro.distributions as dist

import bayesunmix as bu

ELEMENTS = ("Mg", "Al", "Si", "Ca", "Fe")
OLIVINE = {"Mg": 0.601, "Al": 1e-4, "Si": 0.333, "Ca": 4e-4, "Fe": 0.0655}
GLASS = {"Mg": 0.10, "Al": 0.17, "Si": 0.55, "Ca": 0.11, "Fe": 0.07}
SIMULATED = {
    "sample": {"elements": ELEMENTS},
    "instrument": {"beam_energy_keV": 200, "takeoff_angle_deg": 22},
    "phases": [
        {"name": "olivine", "composition": OLIVINE, "fraction": 0.4},
        {"name": "glass", "composition": GLASS, "fraction": 0.6},
    ],
    "simulate": {"counts_per_pixel": 1000.0},
}


def model(data: Any, prior: Any) -> None:  # noqa: ANN401
    """Compositions, everything that is no element of the sample relative to them, and the abundances of every block."""
    counts, per_atom, other = (data[name].values for name in ("counts", "per_atom", "other"))
    with numpyro.plate("phase", len(prior)):
        composition = numpyro.sample("composition", dist.Dirichlet(prior))
        amount = numpyro.sample("other", dist.HalfNormal(1.0).expand([other.shape[1]]).to_event(1))
    lines = (composition[..., None] * per_atom).sum(axis=1)
    spectra = lines / lines.sum(axis=1, keepdims=True) + (amount[..., None] * other).sum(axis=1)
    purity = numpyro.sample("concentration", dist.HalfNormal(0.5).expand([len(prior)]).to_event(1))
    with numpyro.plate("block", len(counts)):
        abundance = numpyro.sample("abundance", dist.Dirichlet(purity))
        mixed = abundance @ (spectra / spectra.sum(axis=1, keepdims=True))
        numpyro.sample("counts", dist.Multinomial(counts.sum(axis=1), mixed), obs=counts)


def main(arguments: list[str] | None = None) -> None:
    """Prepare a map, draw from the posterior and print the compositions."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--map", help="any file that HyperSpy reads as a spectrum image")
    parser.add_argument("--size", type=int, default=16, help="pixels along the sides of the simulated map")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    with numpyro.handlers.seed(rng_seed=chosen.seed):
        olivine = numpyro.sample("olivine", dist.Beta(0.3, 0.6).expand([chosen.size, chosen.size])).tolist()
    abundances = [[[share, 1.0 - share] for share in row] for row in olivine]
    simulated = bu.simulate.simulate_map(SIMULATED, chosen.seed, abundances=abundances)
    prepared = bu.prepare(chosen.map or simulated.image, elements=ELEMENTS, phases=["olivine", "glass"])
    print(prepared)
    # In single precision a log-likelihood of a million resolves a tenth: the sampler would stall.
    numpyro.enable_x64()
    prior = prepared.data["allowed"].astype(float)
    prior.loc["olivine"] = [20_000.0 * OLIVINE[element] for element in ELEMENTS]
    start = numpyro.infer.init_to_median(num_samples=50)
    kernel = numpyro.infer.NUTS(model, target_accept_prob=0.9, init_strategy=start)
    sampler = numpyro.infer.MCMC(
        kernel, num_warmup=chosen.draws, num_samples=chosen.draws, progress_bar=False
    )
    with numpyro.handlers.seed(rng_seed=chosen.seed):
        sampler.run(numpyro.prng_key(), prepared.data, prior.values)
    drawn = sampler.get_samples()
    low, median, high = (
        drawn["composition"].sort(axis=0)[int(part * chosen.draws)] for part in (0.025, 0.5, 0.975)
    )
    for k, phase in enumerate(("olivine", "glass")):
        for i, element in enumerate(ELEMENTS):
            text = bu.interval_text(*(100 * float(at[k, i]) for at in (median, low, high)), "at%")
            truth = "" if chosen.map else f"   truth {100 * simulated.truth.composition[k, i]:.3g}"
            print(f"{element:>4} in {phase:<8} {text}{truth}")


if __name__ == "__main__":
    main()
