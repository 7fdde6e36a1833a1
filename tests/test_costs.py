"""What stages cost is measured: time on the clock, processor time of threads and children, memory."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import psutil

from bayesunmix.core.costs import Meter, peak_bytes
from bayesunmix.core.progress import Reporter

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def test_sleeping_takes_time_and_no_processor() -> None:
    meter = Meter()
    time.sleep(0.2)
    cost = meter.read()
    assert cost.seconds >= 0.2
    assert cost.processor_s < 0.15


def test_processor_time_of_this_process_counts() -> None:
    meter, begin = Meter(), time.process_time()
    while time.process_time() - begin < 0.2:
        pass
    # The clock of the system moves by hundredths.
    assert meter.read().processor_s >= 0.17


def test_processor_time_of_a_process_that_has_ended_counts() -> None:
    meter = Meter()
    subprocess.run([sys.executable, "-c", BUSY], check=True)
    assert meter.read().processor_s >= 0.25


def test_the_peak_stays_when_memory_is_given_back() -> None:
    held = psutil.Process().memory_info().rss
    assert peak_bytes() >= 0.9 * held
    filled = np.ones(held + 100_000_000, np.uint8)
    peak = peak_bytes()
    assert peak >= held + len(filled) - 50_000_000
    del filled
    # The system counts pages core by core, and adds the cores up now and then.
    assert peak_bytes() >= peak - 10_000_000


def test_a_stage_has_its_cost_under_its_name() -> None:
    reporter = Reporter(shown=False)
    with reporter.stage("starting points", "starts"):
        time.sleep(0.02)
    with reporter.stage("mode"):
        pass
    assert list(reporter.costs) == ["starts", "mode"]
    assert reporter.costs["starts"].seconds >= 0.02 > reporter.costs["mode"].seconds
