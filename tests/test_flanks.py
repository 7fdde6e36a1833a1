"""Families off the axis whose flanks lie on it."""

from __future__ import annotations

import numpy as np

from bayesunmix.forward.flanks import shown_flanks
from bayesunmix.forward.spectra import FLANKS, Film, forward_model
from bayesunmix.xray import Detector, LineTable, Response

EDGES = np.arange(1.0, 10.0, 0.01)
RESPONSE = Response()
TABLE = LineTable.built_in(200.0, ["Si", "Cu"])
OBSERVED = np.full(len(EDGES) - 1, 100.0)


def test_a_flank_that_the_counts_show_is_taken() -> None:
    counts = {"Si_K": 1e5, "Cu_K": 2e4, "Cu_L": 5e4}
    # Those with lines on the axis are modelled anyway.
    assert shown_flanks(counts, OBSERVED, EDGES, TABLE, RESPONSE) == {("Cu", "L"): 5e4}
    # A few counts are lost in the noise, and elements that nobody declared have a component of their own.
    assert shown_flanks(counts | {"Cu_L": 500.0}, OBSERVED, EDGES, TABLE, RESPONSE) == {}
    assert shown_flanks({"Cu_L+Cu_K": 5e4, "Si_K": 0.0}, OBSERVED, EDGES, TABLE, RESPONSE) == {}


def test_flanks_are_one_stray_component() -> None:
    detector = Detector.from_resolution(130.0)
    film = Film(thickness_nm=(100.0, 30.0), density_g_cm3=(3.0, 0.3), takeoff_angle_deg=20.0, oxygen=True)
    forward = forward_model(
        ["Si"],
        ["Cu"],
        table=TABLE,
        detector=detector,
        response=RESPONSE,
        film=film,
        beam_energy_keV=200.0,
        edges_keV=EDGES,
        seen_oxygen=False,
        flanks={("Cu", "L"): 5e4},
    )
    assert forward.components == ("Si", "Cu_K", FLANKS, "continuum")
    flank = next(family for family in forward.families if family.name == "Cu_L")
    assert (flank.stray, flank.main, flank.component) == (True, True, 2)
    basis, _ = forward.basis(np.ones((1, 1)), np.ones((1, 1), bool))
    template = basis.family_templates[0, forward.families.index(flank)]
    # What is on the axis lies at its beginning.
    assert template[:20].sum() > 0.98
