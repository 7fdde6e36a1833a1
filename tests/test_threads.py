"""What threads of a process share."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bayesunmix import pipeline
from bayesunmix.config.run_config import RunConfig
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage


def test_models_of_several_threads_come_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPyro has one stack of handlers for all threads, in which two models would mix."""
    inside: list[int] = []
    most: list[int] = []

    def computed(*_: object) -> None:
        inside.append(1)
        time.sleep(0.05)
        most.append(len(inside))
        inside.pop()

    monkeypatch.setattr(pipeline, "_computed", computed)
    monkeypatch.setattr(pipeline, "_prepared", lambda *_, **__: None)
    monkeypatch.setattr(pipeline, "_begun", lambda *_, **__: None)
    facts = Acquisition(beam_energy_keV=200.0, takeoff_angle_deg=22.0)
    energy = 1.0 + 0.1 * np.arange(30)
    image = SpectrumImage.from_array(np.ones((2, 2, 30), np.uint8), energy, acquisition=facts)
    config = RunConfig.from_dict({"sample": {"elements": ["Fe"]}, "phases": 1})
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda seed: pipeline.run_image(image, config, None, seed=seed), range(3)))
    assert most == [1, 1, 1]
