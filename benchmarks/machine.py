"""The machine that figures were measured on, in words."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from bench import GIGABYTE

PACKAGES = ("jax", "jaxlib", "numpyro", "numpy", "scipy", "hyperspy", "scikit-learn")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What times depend on.

    Parameters
    ----------
    processor
        Its model.
    cores
        Logical ones that programs may use.
    memory_bytes
        In all.
    system
        Operating system and architecture.
    versions
        Of Python and of the packages that compute.
    """

    processor: str
    cores: int
    memory_bytes: int
    system: str
    versions: dict[str, str]

    @classmethod
    def here(cls) -> Machine:
        """Describe this one."""
        return cls(
            processor=_processor(),
            cores=_cores(),
            memory_bytes=int(psutil.virtual_memory().total),
            system=f"{platform.system()} {platform.machine()}",
            versions={"Python": platform.python_version(), **_versions()},
        )

    def __str__(self) -> str:
        """Return one sentence for a page."""
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_bytes / GIGABYTE:.0f} GB of memory, {self.system}; "
            f"{versions}."
        )


def _processor() -> str:
    """Return the model's name as the system tells it."""
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    try:
        return len(psutil.Process().cpu_affinity() or ())
    except AttributeError:  # macOS
        return psutil.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit_of(checkout: Path) -> str:
    """Return the commit of a checkout, with a plus where files differ from it; nothing where there is no Git."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
