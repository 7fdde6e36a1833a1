"""Spectra of phases from espm's own simulator; runs in espm's own environment, see `espm_speed`.

python espm_maps_worker.py JOB.json FOUND.npz

The job holds for every phase what espm calls its parameters (elements_dict, b0, b1), and what the model of espm is made
with. What is found: spectra (phase, energy) of unit sum, and the energies of the channels in keV.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import numpy as np  # noqa: E402 - its deprecation warnings are not ours
from espm.models.edxs import EDXS  # noqa: E402


def main(job: str, found: str) -> None:
    """Read the job, make the spectra, and write them."""
    task = json.loads(Path(job).read_text(encoding="utf-8"))
    model = EDXS(**task["model"])
    model.generate_phases(task["phases"])
    np.savez(found, spectra=model.phases, energy_keV=model.x)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
