"""What the page's script draws: numbers that come back as they went in, and a script that nothing slips into."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import runpy
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayesunmix.report import live
from bayesunmix.report.live import MOST_BYTES, endmember_panel, fit_panel, live_parts, map_panels, packed
from bayesunmix.report.page import report_html

_PLOTS = runpy.run_path(str(Path(__file__).with_name("test_plot.py")))
synthetic_result: Callable[..., Any] = _PLOTS["synthetic_result"]


def unpack(one: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Read packed numbers as the script does."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(one["letters"])), np.uint8)
    width = np.dtype(one["type"]).itemsize
    return planes.reshape(width, one["count"]).T.copy().view(f"<{one['type']}").ravel()


@pytest.fixture(scope="module")
def result() -> Any:  # noqa: ANN401 - the stand-in of test_plot
    return synthetic_result()


@pytest.mark.parametrize(
    "values", [np.array([0, 1, 258, 65535], np.uint16), np.array([[0.1, -3e7], [np.nan, 1e-9]])]
)
def test_numbers_come_back(values: np.ndarray[Any, Any]) -> None:
    back = unpack(packed(values))
    np.testing.assert_array_equal(back, values.ravel().astype(back.dtype))
    assert unpack(packed(values[:0])).size == 0


def test_maps_are_rounded_to_a_thousandth_and_say_what_is_left_out(result: Any) -> None:  # noqa: ANN401
    maps = result.tree["maps"].dataset
    mean = maps["abundance_mean"].copy(deep=True)
    mean[:, 3, 4] = np.nan
    tree = result.tree.copy()
    tree["maps"] = type(tree)(maps.assign(abundance_mean=mean))
    found = map_panels(dataclasses.replace(result, tree=tree))
    assert found is not None
    assert (found["shape"], found["side"]) == ([30, 40], 1)
    for number, phase in enumerate(found["phases"]):
        steps = unpack(phase["mean"]["values"]).reshape(30, 40)
        assert steps[3, 4] == found["left_out"]
        taken = steps != found["left_out"]
        assert np.count_nonzero(~taken) == 1
        back = steps[taken] * found["step"]
        assert np.abs(back - mean.values[number][taken]).max() <= 0.5001 * found["step"]
    counts = unpack(found["counts"]).reshape(30, 40)
    assert np.isnan(counts[3, 4])
    np.testing.assert_array_equal(
        counts[taken], result.tree["constant_data"]["total_counts"].values[taken].astype(np.float32)
    )


def test_a_large_map_is_pooled_until_it_fits(result: Any) -> None:  # noqa: ANN401
    rng = np.random.default_rng(3)
    shape, phases = (512, 509), 8
    draws = rng.dirichlet(np.ones(phases), shape)
    large = synthetic_result(shape=(4, 4), phases=6)
    maps = large.tree["maps"].dataset.drop_vars("image_HAADF").isel(y=[0], x=[0], phase=[0] * phases)
    whole = {
        f"abundance_{name}": (("phase", "y", "x"), np.moveaxis(draws, -1, 0) * scale)
        for name, scale in (("mean", 1.0), ("sd", 0.3))
    }
    tree = large.tree.copy()
    tree["maps"] = type(tree)(maps.drop_vars(list(maps.data_vars)).assign(whole).assign_attrs(maps.attrs))
    total = rng.poisson(200.0, shape)
    tree["constant_data"] = type(tree)(
        large.tree["constant_data"].dataset.drop_vars("total_counts").assign(total_counts=(("y", "x"), total))
    )
    found = map_panels(dataclasses.replace(large, tree=tree, phases=[f"phase {i}" for i in range(phases)]))
    assert found is not None
    side = found["side"]
    assert side > 1
    assert len(json.dumps(found)) < MOST_BYTES
    rows, columns = found["shape"]
    assert (rows, columns) == (-(-512 // side), -(-509 // side))
    mean = unpack(found["phases"][2]["mean"]["values"]).reshape(rows, columns)[5, -1] * found["step"]
    square = np.s_[5 * side : 6 * side, (columns - 1) * side :]
    assert mean == pytest.approx(draws[square][..., 2].mean(), abs=0.51 * found["step"])
    sd = unpack(found["phases"][2]["sd"]["values"]).reshape(rows, columns)[5, -1] * found["step"]
    assert sd == pytest.approx(np.sqrt(((0.3 * draws[square][..., 2]) ** 2).mean()), abs=0.51 * found["step"])
    counts = unpack(found["counts"]).reshape(rows, columns)[5, -1]
    assert counts == pytest.approx(total[square].mean(), rel=1e-6)


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_a_line_or_a_point_keeps_its_picture_alone(shape: tuple[int, int]) -> None:
    assert map_panels(synthetic_result(shape=shape)) is None
    assert "maps" not in json.loads(live_parts(synthetic_result(shape=shape)).data)


def test_spectra_are_those_of_the_result(result: Any) -> None:  # noqa: ANN401
    fit, data = fit_panel(result), result.tree["fit"].dataset
    np.testing.assert_allclose(unpack(fit["spectra"][0]["counts"]), data["observed"].values, rtol=1e-6)
    np.testing.assert_allclose(
        unpack(fit["spectra"][2]["fit"]), data["segment_expected"].values[1], rtol=1e-6
    )
    assert [part["name"] for part in fit["parts"]["phase"]] == result.phases
    assert len(unpack(fit["edges"])) == data.sizes["energy_bin"] + 1
    names = {name for name, _, _ in fit["names"]}
    assert {"Mg Kα", "Fe Kα"} <= names
    panel, spectra = endmember_panel(result), result.tree["endmembers"].dataset
    shown = np.isfinite(spectra["mean"].values).all(axis=0)
    for number, one in enumerate(panel["series"]):
        for name in ("mean", "lower", "upper"):
            back = unpack(one[name])
            np.testing.assert_allclose(back, spectra[name].values[number][shown], rtol=2.0**-13)
    np.testing.assert_allclose(
        unpack(panel["edges"])[:-1] + 0.005, spectra["energy"].values[shown], atol=1e-5
    )


def test_the_policy_names_the_script_that_is_there_and_nothing_else(result: Any) -> None:  # noqa: ANN401
    page = report_html(result)
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = " ".join(re.findall(r'Content-Security-Policy" content="([^"]*)"', page)[0].split())
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "http" not in script


def test_a_name_cannot_end_the_numbers(result: Any) -> None:  # noqa: ANN401
    name = "</script><script>alert(1)</script><!--"
    data = live_parts(dataclasses.replace(result, phases=[name, *result.phases[1:]])).data
    assert "<" not in data
    assert json.loads(data)["spectra"]["series"][0]["name"] == name


def test_every_script_is_in_the_page() -> None:
    folder = Path(live.__file__).parent
    assert sorted(live.SCRIPTS) == sorted(path.name for path in folder.glob("*.js"))
