"""Several processes on one machine fit one map together: the same numbers, one set of files, and one end for all."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

from bayesunmix.config.compute import ComputeConfig
from bayesunmix.core import processes
from bayesunmix.core.errors import InputError
from bayesunmix.core.output_folder import names_of
from bayesunmix.results.result import open_result

TOML = """
[sample]
elements = ["Mg", "Si", "Fe"]
thickness_nm = [100, 30]
density_g_cm3 = [4.5, 0.3]
[simulate]
shape = [12, 12]
counts_per_pixel = 150.0
[[phases]]
name = "A"
matrix = true
composition = {Mg = 0.5, Si = 0.5}
fraction = 0.8
[[phases]]
name = "B"
absent = ["Si"]
composition = {Mg = 0.8, Fe = 0.2}
fraction = 0.2
[inference]
method = "laplace"
draws = 20
starts = 1
[compute]
distributed = "auto"
processes = 2
"""
# Two processes give each other bytes, shares of a map's blocks and pixels, and an error.
EXCHANGE = """
import dataclasses, json, sys
import numpy as np
from bayesunmix.core import processes
from bayesunmix.core.errors import InputError
from bayesunmix.data.binning import bin_image
from bayesunmix.data.image import SpectrumImage
from bayesunmix.inference import pixel_model, pixel_posterior


class Image(SpectrumImage):
    read = []

    def bands(self, rows=None, *, whole=1):
        for part, band in super().bands(rows, whole=whole):
            self.read += range(part.start, part.stop)
            yield part, band


address, number = sys.argv[1], int(sys.argv[2])
processes.join(address, 2, number, 60)
every = processes.gathered(bytes([number]) * (5_000_000 * number + 3))
rng = np.random.default_rng(0)
facts = dict(beam_energy_keV=200.0, takeoff_angle_deg=20.0)
image = Image.from_array(rng.poisson(3, (23, 17, 40)), np.arange(40) * 0.1 + 0.1, **facts)
blocks = bin_image(image, [0, 10, 20, 40], 3)
summed = np.zeros(blocks.counts.shape, int)
np.add.at(summed, blocks.block_index.ravel(), np.add.reduceat(image.counts.reshape(-1, 40), [0, 10, 20], axis=1))
pixel_model.BATCH_PIXELS = 50
spectra = rng.dirichlet(np.ones(3), (2, 2))
counts = image.counts.reshape(-1, 40)[:, :3]
common = dict(level=0.9, neighbours=image.used)
shared, alone = (
    pixel_posterior.pixel_posterior(counts, spectra, np.ones((2, 2)), **common, together=together)
    for together in (True, False)
)
pairs = [[getattr(one, field.name) for one in (shared, alone)] for field in dataclasses.fields(shared)]
said = {
    "lengths": [len(one) for one in every],
    "equal": every[0] == bytes(3) and set(every[1]) == {1},
    "first": processes.from_first(lambda: b"of the first").decode(),
    "read": Image.read,
    "blocks": bool((blocks.counts == summed).all()),
    "pixels": all(np.allclose(*pair, atol=1e-6) for pair in pairs),
}
for failing in range(2):
    processes.join(address, 2, number, 60)
    try:
        with processes.failing_together():
            if number == failing:
                raise InputError("MAP", "be there", f"is not for {failing}")
    except InputError as error:
        said[f"error {failing}"] = str(error)
said["speaks"] = processes.speaks()
print(json.dumps(said))
"""

# A process that supervises one which has joined the others and waits.
SUPERVISED = """
import subprocess, sys, time
from bayesunmix.core import supervision

if supervision.can_supervise():
    real = subprocess.Popen
    script = ["-P", "-c", sys.orig_argv[-1]]
    subprocess.Popen = lambda command, **settings: real([sys.executable, *script], **settings)
    supervision.supervise([])
else:
    supervision.be_supervised()
    supervision.note_joined()
    print("waits", flush=True)
    time.sleep(60)
"""


def start(number: int | None, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """Start one of several processes, whose number is in its environment, or one alone."""
    own = {} if number is None else {"BAYESUNMIX_PROCESS": str(number)}
    return subprocess.Popen(
        [sys.executable, "-P", *map(str, arguments)],
        env={**os.environ, **own, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_address() -> str:
    """Return an address on this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a simulated map and its configuration."""
    folder = tmp_path_factory.mktemp("distributed")
    (folder / "run.toml").write_text(TOML)
    (folder / "alone.toml").write_text(TOML.partition("[compute]")[0])
    made = start(
        None, "-m", "bayesunmix", "simulate", "--config", folder / "run.toml", "--out", folder / "map.hspy"
    )
    assert made.communicate()[1] == ""
    assert made.returncode == 0
    return folder


def unmix(declared: Path, out: Path, config: str = "run.toml") -> list[str | Path]:
    """Return the arguments of a run."""
    return [
        "-m",
        "bayesunmix",
        "unmix",
        declared / "map.hspy",
        "--config",
        declared / config,
        "--out",
        out,
    ]


def test_rows_are_shared_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.share(5) == slice(0, 5)
    monkeypatch.setattr(processes, "number", lambda: 3)
    for length in (0, 2, 3, 10):
        parts = []
        for index in range(3):
            monkeypatch.setattr(processes, "index", lambda index=index: index)
            own = processes.share(length)
            parts.append(list(range(length))[own])
        assert [row for part in parts for row in part] == list(range(length))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_settings_must_go_together() -> None:
    assert ComputeConfig(distributed="auto").processes is None
    assert ComputeConfig(distributed="[fe80::1]:7654", processes=3, process=2).process == 2
    with pytest.raises(InputError, match=r"`compute\.processes` must go with `compute\.distributed`"):
        ComputeConfig(processes=2)
    with pytest.raises(InputError, match=r"`compute\.processes` must be given beside an address"):
        ComputeConfig(distributed="node1:7654")
    with pytest.raises(InputError, match=r"`compute\.process` must be below .* from 0 to 1, but is 2"):
        ComputeConfig(distributed="node1:7654", processes=2, process=2)
    for address in ("node1", "node1:", "node1:99999", "http://node1:80", ":7654"):
        with pytest.raises(InputError, match=r'`compute\.distributed` must be "auto" or host:port'):
            ComputeConfig(distributed=address, processes=2)


def test_bytes_shares_and_errors_reach_every_process() -> None:
    address = free_address()
    started = [start(number, "-c", EXCHANGE, address, str(number)) for number in range(2)]
    answers = [process.communicate(timeout=120) for process in started]
    said = [json.loads(out.splitlines()[-1]) for out, _ in answers]
    for one in said:
        assert one["lengths"] == [3, 5_000_003]
        assert one["equal"]
        assert one["blocks"]
        assert one["pixels"]
        assert one["first"] == "of the first"
        assert [one[f"error {failing}"] for failing in range(2)] == [
            f"`MAP` must be there, but is not for {failing}." for failing in range(2)
        ]
    # Blocks of three rows are not torn apart.
    assert [one["read"] for one in said] == [list(range(12)), list(range(12, 23))]
    assert [one["speaks"] for one in said] == [True, False]
    assert [process.returncode for process in started] == [0, 0]


@pytest.mark.calibration
def test_nobody_answers(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f"{TOML}join_timeout_s = 1\n")
    process = start(1, *unmix(tmp_path, tmp_path / "out"), "--distributed", free_address())
    out, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert said.splitlines() == [
        "bayesunmix: error: `compute.distributed` must bring all processes together within 1 s, but not all came, two "
        "have the same number, or the address does not answer. See docs/clusters.md."
    ]
    assert not (tmp_path / "out").exists()


def test_what_computes_ends_with_what_supervises() -> None:
    supervisor = start(None, "-c", SUPERVISED)
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "waits\n"
    supervisor.kill()
    # The pipe ends with the last process that holds it: the other one would keep it for a minute.
    assert supervisor.communicate(timeout=20) == ("", "")


def test_too_late() -> None:
    jax.devices()
    with pytest.raises(InputError, match=r"`compute\.distributed` must be set before JAX is used"):
        processes.join("127.0.0.1:7654", 2, 0, 1.0)


@pytest.mark.calibration
def test_auto_where_nothing_started_the_processes(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(TOML)
    process = start(0, *unmix(tmp_path, tmp_path / "out"))
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.count("\n") == 1
    assert "must be set where SLURM, Open MPI or a cloud TPU started the processes" in said


@pytest.mark.calibration
def test_two_processes_give_the_numbers_of_one(declared: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # A process with two devices adds the same two sums.
    alone = start(
        None, *unmix(declared, one, "alone.toml"), XLA_FLAGS="--xla_force_host_platform_device_count=2"
    )
    alone.communicate()
    address = free_address()
    started = [start(number, *unmix(declared, two), "--distributed", address) for number in range(2)]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [alone.returncode] * 2, said
    assert said[0][0] == f"wrote {two}\n"
    assert said[1] == ("", "")
    assert names_of(two) == names_of(one)
    # Two addends have one sum: every step is the same to the last bit, or the search would end elsewhere.
    for table in ("composition.csv", "partition.csv"):
        frames = [pd.read_csv(folder / table) for folder in (one, two)]
        pd.testing.assert_frame_equal(*frames, rtol=1e-6)
    maps = [open_result(folder).abundances()["mean"].values for folder in (one, two)]
    np.testing.assert_allclose(*maps, atol=1e-5)


@pytest.mark.calibration
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other(declared: Path, tmp_path: Path, killed: int) -> None:
    address, out = free_address(), tmp_path / "out"
    started = [start(number, *unmix(declared, out), "--distributed", address) for number in range(2)]
    while not (out / ".stages" / "starts.npz").exists():
        assert all(process.poll() is None for process in started)
        time.sleep(0.1)
    started[killed].send_signal(signal.SIGKILL)
    _, said = started[1 - killed].communicate(timeout=240)
    started[killed].communicate()
    assert started[1 - killed].returncode == 1
    ends = [line for line in said.splitlines() if "error" in line]
    assert len(ends) == 1
    assert "another process of this run has ended, or cannot be reached any more" in ends[0]
