"""From a map on disk to tables of compositions and partition coefficients.

    python examples/file_to_table.py map.hspy --out tables

Change ELEMENTS, STRAY and PHASES to what is known of your own sample; `bayesunmix inspect map.hspy` helps with it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import bayesunmix as bu

ELEMENTS = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]
STRAY = ["Cu", "Ga", "Pt", "Zr"]
PHASES = [
    bu.Phase("Brg", matrix=True, stoichiometry="ABO3"),
    bu.Phase("Fp", absent=["Si", "Ca"]),
    bu.Phase("CaPv", absent=["Mg"]),
]
SAMPLE = {"thickness_nm": [100, 30], "density_g_cm3": [4.5, 0.3]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Unmix a file and write its tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("map", type=Path, help="any file that HyperSpy reads as a spectrum image")
    parser.add_argument("--out", type=Path, default=Path("tables"), help="folder for the tables")
    parser.add_argument("--method", choices=("nuts", "laplace", "map"), default="nuts")
    parser.add_argument("--draws", type=int, default=500, help="posterior draws kept in each of two chains")
    parser.add_argument("--warmup", type=int, default=500, help="draws discarded in each chain")
    parser.add_argument("--crop", type=int, help="use only this many pixels along y and x, for a quick trial")
    chosen = parser.parse_args(arguments)

    image = bu.load(chosen.map)
    if chosen.crop is not None:
        image = dataclasses.replace(image, counts=image.counts[: chosen.crop, : chosen.crop])
    result = bu.unmix(
        image,
        elements=ELEMENTS,
        phases=PHASES,
        stray=STRAY,
        method=chosen.method,
        sample=SAMPLE,
        inference={"draws": chosen.draws, "warmup": chosen.warmup},
    )
    print(result)

    chosen.out.mkdir(parents=True, exist_ok=True)
    tables = {
        "atom_fraction.csv": result.summary(),
        "oxide_weight_percent.csv": result.summary("oxide_wt_pct"),
        "partition.csv": result.tables.partition(),
        "diagnostics.csv": result.diagnostics(),
    }
    for name, table in tables.items():
        table.to_csv(chosen.out / name, index=False)
        print(f"wrote {chosen.out / name}")


if __name__ == "__main__":
    main()
