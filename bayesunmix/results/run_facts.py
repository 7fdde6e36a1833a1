"""What the numbers of a run depend on: two runs for which all of it is the same give the same numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from bayesunmix.config.run_config import RunConfig
from bayesunmix.data.map_bins import data_hash
from bayesunmix.fit.setup import Setup

PACKAGES = (
    "bayesunmix",
    "jax",
    "jaxlib",
    "numpyro",
    "numpy",
    "scipy",
    "xarray",
    "arviz-base",
    "arviz-stats",
    "xraylib",
)


def run_facts(setup: Setup, config: RunConfig, seed: int) -> dict[str, Any]:
    """Return everything that the stages of a run depend on, as JSON can hold it.

    Parameters
    ----------
    setup
        The prepared run.
    config
        What was asked.
    seed
        Of the run.
    """
    import jax

    table = config.xray.table
    image = setup.image
    acquisition = image.acquisition
    return {
        "counts": image.count_hash(),
        "configuration": {key: table for key, table in config.to_dict().items() if key != "compute"},
        "regions": None if setup.known is None else data_hash(setup.known),
        "references": [one.read_hash for one in setup.references],
        "line_table": None if table is None else hashlib.sha256(table.read_bytes()).hexdigest(),
        "acquisition": {
            field.name: getattr(acquisition, field.name) for field in dataclasses.fields(acquisition)
        },
        "pixel": {"size": image.pixel_size, "unit": image.pixel_unit},
        "seed": seed,
        "versions": versions(),
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "backend": jax.default_backend(),
        },
    }


def host_facts() -> dict[str, Any]:
    """Return what processes that compute together must have in common besides, so that all round alike."""
    import jax
    from threadpoolctl import threadpool_info

    names = ("internal_api", "version", "architecture", "num_threads")
    return {
        "devices": [device.device_kind for device in jax.local_devices()],
        "linear algebra": [
            {name: library.get(name) for name in names}
            for library in threadpool_info()
            if library["user_api"] == "blas"
        ],
    }


def versions() -> dict[str, str]:
    """Versions of everything that decides the numbers."""
    found = {"python": platform.python_version()}
    return found | {name: metadata.version(name) for name in PACKAGES}


def now() -> str:
    """Time of day of the run, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
