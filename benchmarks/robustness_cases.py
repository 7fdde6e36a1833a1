"""The cases of `robustness.py`: odd configurations, calls, folders and files, each drawn from a random generator."""

from __future__ import annotations

import datetime
import fractions
import json
import math
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

BASE: dict[str, Any] = {
    "map": {"energy_range": [0.9, 9.9]},
    "sample": {
        "elements": ["Mg", "Si", "Ca", "Fe"],
        "stray": ["Cu"],
        "oxygen": "stoichiometry",
        "thickness_nm": [100, 30],
        "density_g_cm3": [4.0, 1.0],
    },
    "instrument": {"beam_energy_keV": 200, "takeoff_angle_deg": 22},
    "inference": {"method": "map"},
    "phases": [
        {"name": "A", "matrix": True, "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.7},
        {"name": "B", "absent": ["Si"], "composition": {"Mg": 0.4, "Fe": 0.6}, "fraction": 0.3},
    ],
    "simulate": {
        "shape": [8, 8],
        "counts_per_pixel": 300,
        "channels": 1024,
        "offset_keV": 0.0,
        "stray": {"Cu": 0.02},
    },
}
KEYS = {
    "map": ["energy_range", "rows", "columns", "mask", "energy_offset_keV", "energy_scale_keV"],
    "sample": ["elements", "stray", "oxygen", "thickness_nm", "density_g_cm3", "bulk_wt_pct"],
    "instrument": [
        "beam_energy_keV",
        "takeoff_angle_deg",
        "resolution_eV",
        "beam_current_nA",
        "live_time_s",
        "microscope",
    ],
    "xray": ["table", "k_factors", "zeta_factors", "absorption_sd"],
    "inference": [
        "method",
        "chains",
        "draws",
        "warmup",
        "level",
        "starts",
        "max_overlap",
        "endmembers",
        "spatial",
        "guide",
        "resample",
    ],
    "output": ["units", "oxygens", "ferric", "valences"],
    "phases": ["name", "matrix", "absent", "stoichiometry", "kind", "composition", "fraction"],
}
LONG = "Mg" * 30_000
ODD: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    0,
    -1,
    1,
    2,
    0.5,
    1e-300,
    1e300,
    10**30,
    10**400,
    -(10**400),
    True,
    False,
    "",
    " ",
    "Mg",
    "auto",
    "a/b",
    "../x",
    "a\nb",
    "a\x00b",
    "\u202eabc",
    "\u0007",
    "名前 🜂",
    "é" * 300,
    "$x_{$",
    "\\frac",
    "%s {0} {x!r}",
    "<script>alert(1)</script>",
    LONG,
    "A1" * 20_000,
    "A99999999999999999999B2O3",
    "ABO0",
    [],
    {},
    [[]],
    [{}],
    [1],
    [1, 2],
    [2, 1],
    [math.nan, 1],
    [1, math.nan],
    [math.inf, 1],
    [1e300, 1e300],
    [10**400, 1],
    [1, "x"],
    ["Mg"],
    ["Mg", "Mg"],
    ["mg"],
    ["H"],
    ["Xx"],
    ["Mg"] * 5000,
    ["Mg", "Si", "Ca", "Fe"],
    {"Mg": 1},
    {"Mg": math.nan},
    {"Mg": [1, 2]},
    {"": 1},
    {"Fe_Ka": [1.2, 0.1]},
    {"Fe_Ka": [1e-300, 1]},
    {"U_Ma": [3.0, 0.1]},
    {"Fe_Q": [1.2, 0.1]},
    {"Mg": {"Mg": {"Mg": 1}}},
    datetime.date(2026, 11, 28),
    datetime.datetime(2026, 11, 28, 1, 2, 3),
    datetime.time(1, 2),
]


class EnoughError(click.exceptions.Exit):
    """The case was accepted and computed as far as it is looked at; a command ends with status 0 then."""


# -- what cases start from --------------------------------------------------------------------------------------------


def prepare(work: Path, files: Path | None, kinds: tuple[str, ...]) -> None:
    """Write a small map, and an output folder where one is needed."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.data.io import save
    from bayesunmix.pipeline import run_image
    from bayesunmix.simulation.simulate import simulate_map

    config = RunConfig.from_dict(BASE)
    image = simulate_map(config, 0).image
    (work / "maps").mkdir()
    save(image, work / "maps" / "map.hspy")
    _write_ripple(work / "maps", image.counts)
    _write_msa(work / "maps", image.sum_spectrum(), image.energy_step_keV)
    for path in sorted(files.rglob("*")) if files is not None else ():
        if path.is_file() and path.stat().st_size < 2_000_000:
            shutil.copy(path, work / "maps" / path.name)
    # Calls need a result, too.
    if {"folders", "calls"} & set(kinds):
        run_image(image, config, work / "out", seed=0, progress=False)


def _write_ripple(folder: Path, counts: np.ndarray[Any, Any]) -> None:
    """Write the counts as Lispix raw data with a header."""
    rows, columns, channels = counts.shape
    counts.astype("<u2").tofile(folder / "ripple.raw")
    facts = {
        "width": columns,
        "height": rows,
        "depth": channels,
        "offset": 0,
        "data-length": 2,
        "data-type": "unsigned",
        "byte-order": "little-endian",
        "record-by": "vector",
        "signal": "EDS_TEM",
        "depth-origin": 0.0,
        "depth-scale": 0.01,
        "depth-units": "keV",
        "depth-name": "Energy",
        "beam-energy": 200,
        "elevation-angle": 22,
    }
    lines = "".join(f"{key}\t{value}\n" for key, value in facts.items())
    (folder / "ripple.rpl").write_text(f"key\tvalue\n{lines}", encoding="utf-8")


def _write_msa(folder: Path, spectrum: np.ndarray[Any, Any], step_keV: float) -> None:
    """Write the sum spectrum in the format of EMSA and MAS."""
    head = {
        "FORMAT": "EMSA/MAS Spectral Data File",
        "VERSION": "1.0",
        "TITLE": "sum",
        "NPOINTS": f"{spectrum.size}.",
        "NCOLUMNS": "1.",
        "XUNITS": "keV",
        "YUNITS": "counts",
        "DATATYPE": "Y",
        "XPERCHAN": f"{step_keV}",
        "OFFSET": "0.0",
        "SIGNALTYPE": "EDS",
        "BEAMKV": "200.",
        "ELEVANGLE": "22.",
    }
    lines = [f"#{key:<12}: {value}" for key, value in head.items()]
    numbers = [f"{count:.1f}," for count in spectrum]
    text = "\n".join([*lines, "#SPECTRUM    : Data", *numbers, "#ENDOFDATA   :", ""])
    (folder / "sum.msa").write_text(text, encoding="ascii")


# -- configurations ---------------------------------------------------------------------------------------------------


def config_case(draw: random.Random, folder: Path, work: Path) -> tuple[int, str]:
    """Unmix the map with an odd configuration."""
    path = folder / "run.toml"
    if draw.random() < 0.25:
        path.write_bytes(_odd_text(draw))
    else:
        path.write_text(toml(_odd_tables(draw, folder)), encoding="utf-8", errors="replace")
    arguments = [
        "unmix",
        str(work / "maps" / "map.hspy"),
        "--config",
        str(path),
        "--out",
        str(folder / "out"),
    ]
    if draw.random() < 0.1:
        arguments = ["simulate", "--config", str(path), "--out", str(folder / "map.hspy")]
    return command(arguments)


def _odd_tables(draw: random.Random, folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(BASE))
    data["simulate"]["shape"] = [4, 4]
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        table = draw.choice(list(KEYS))
        key, value = draw.choice(KEYS[table]), draw.choice(ODD)
        what = draw.random()
        if what < 0.05:
            data[table] = value
        elif what < 0.1:
            data[draw.choice(["mapp", "1", "", "phase", "a b"])] = value
        elif what < 0.15:
            data["phases"] = draw.choice([0, 1, 21, 10**30, "auto", [], [{}], [{"name": "A"}] * 2, [1], 2.0])
        elif table == "phases":
            if isinstance(data["phases"], list) and data["phases"] and isinstance(data["phases"][0], dict):
                draw.choice(data["phases"])[key] = value
        elif what < 0.3 and table == "xray":
            data["xray"] = {"table": _odd_line_table(draw, folder)}
        elif isinstance(data.setdefault(table, {}), dict):
            data[table][key] = value
    return data


def _odd_line_table(draw: random.Random, folder: Path) -> str:
    """Write a damaged line table; return its name."""
    lines: Any = {
        element: [{"line": "KL3", "family": "K", "energy_keV": energy, "strength": 1e-22}]
        for element, energy in (
            ("Mg", 1.25),
            ("Si", 1.74),
            ("Ca", 3.69),
            ("Fe", 6.4),
            ("Cu", 8.05),
            ("O", 0.52),
        )
    }
    value = draw.choice([*(v for v in ODD if not isinstance(v, datetime.date | datetime.time)), None])
    what = draw.randrange(6)
    if what == 0:
        lines = value
    elif what == 1:
        lines[draw.choice(list(lines))] = value
    elif what == 2:
        lines[draw.choice(list(lines))] = [value]
    elif what == 3:
        draw.choice(list(lines.values()))[0][
            draw.choice(["line", "family", "energy_keV", "strength", "x"])
        ] = value
    elif what == 4:
        del draw.choice(list(lines.values()))[0][draw.choice(["line", "family", "energy_keV", "strength"])]
    else:
        lines = {key: rows * 2 for key, rows in lines.items()}
    (folder / "lines.json").write_text(_json(lines), encoding="utf-8", errors="replace")
    return "lines.json"


def _json(value: object) -> str:
    import sys

    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(4300)


def _odd_text(draw: random.Random) -> bytes:
    """Return bytes that are hardly a configuration."""
    good = toml(BASE).encode()
    at = draw.randrange(len(good))
    kinds: list[Callable[[], bytes]] = [
        lambda: good[:at],
        lambda: good[:at] + bytes([draw.randrange(256)]) + good[at + 1 :],
        lambda: b"\xef\xbb\xbf" + good,
        lambda: good.replace(b"\n", b"\r\n"),
        lambda: good.replace(b"\n", b"\r"),
        lambda: good.decode().encode("utf-16"),
        lambda: good.decode().encode("utf-32"),
        lambda: b"a=" + b"[" * 5000,
        lambda: b"a=" + b"{a=" * 3000,
        lambda: b".".join([b"a"] * 50_000) + b"=1",
        lambda: b"[" + b".".join([b"sample"] * 20_000) + b"]",
        lambda: b"[[phases]]\n" * 20_000,
        lambda: good + good,
        lambda: b"",
        lambda: b"\x00" * 1000,
        lambda: draw.randbytes(3000),
        lambda: b"x=" + b"9" * 5000,
        lambda: b"[sample]\nelements = [" + b'"Mg",' * 30_000 + b"]\nphases=1",
        lambda: b"#" * 50_000_000,
        lambda: good + b'\n[sample]\nelements=["Mg"]\n',
        lambda: b"d = 2026-02-31\n" + good,
        lambda: good.replace(b"keV", b"kEv"),
    ]
    return draw.choice(kinds)()


def toml(data: Mapping[str, Any]) -> str:
    """Write tables as TOML."""
    plain = [f"{_key(k)} = {_value(v)}" for k, v in data.items() if not isinstance(v, Mapping)]
    tables = [
        "\n".join([f"[{_key(name)}]", *(f"{_key(k)} = {_value(v)}" for k, v in table.items())])
        for name, table in data.items()
        if isinstance(table, Mapping)
    ]
    return "\n".join([*plain, *tables]) + "\n"


def _key(key: str) -> str:
    return _value(str(key))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return f"{value}"


# -- Python calls -----------------------------------------------------------------------------------------------------


class Speechless:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no words")


_PAIR = {"numerator": "A", "denominator": "B"}
# Method of a result, arguments that are fine, and those of which one is made odd.
_RESULT_CALLS: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("composition", {}, ("unit", "oxygens", "ferric", "valences", "oxygen")),
    ("partition", _PAIR, ("numerator", "denominator", "by")),
    ("exchange", _PAIR, ("numerator", "denominator", "first", "second")),
    ("summary", {}, ("unit",)),
    ("partition_table", {}, ("by",)),
    ("exchange_table", {}, ("first", "second")),
    ("mg_number", {}, ("ferric",)),
    ("sites", {}, ("formulas", "ferric")),
    ("mass_balance", {}, ("bulk",)),
    ("onuma", _PAIR, ("numerator", "coordination", "valences", "radii_A", "elements", "host", "seed", "zz")),
)
_FACTS = (
    "beam_energy_keV",
    "takeoff_angle_deg",
    "resolution_eV",
    "live_time_s",
    "tilt_deg",
    "elements",
    "zz",
)
_IMAGE_FIELDS = ("acquisition", "pixel_size", "pixel_unit", "origin", "mask", "images", "name", "warnings")
_LOAD_OPTIONS = ("signal", "beam_energy_keV", "resolution_eV", "microscope", "energy_scale_keV")
_COMPARE_OPTIONS = ("results", "names", "phases", "covariate", "level", "seed")


def call_case(draw: random.Random, folder: Path, work: Path) -> tuple[int, str]:
    """Call a public function with odd arguments."""
    import warnings

    import bayesunmix as bu

    odd: list[Any] = [
        *ODD,
        None,
        object(),
        b"bytes",
        1j,
        np.nan,
        np.array([]),
        np.arange(3),
        np.array(["Mg", "Si"]),
        np.zeros((2, 2, 2)),
        {1, 2},
        range(3),
        lambda: 1,
        int,
        "\ud800",
        "a\x00b.hspy",
        "x" * 5000,
        Path(),
        Path("/dev/null"),
        folder,
        (1, 2, 3),
        bu.Phase,
        bu.Phase("A"),
        Speechless(),
        np.array("x"),
        np.array(3),
        np.float32(1),
        np.int64(1),
        fractions.Fraction(1, 2),
    ]
    one: Callable[[], Any] = lambda: draw.choice(odd)  # noqa: E731
    counts = np.random.default_rng(0).poisson(5.0, (4, 4, 300)).astype(np.uint8)
    energy = 0.5 + 0.02 * np.arange(300)
    good = {
        "elements": ["Mg", "Si"],
        "phases": ["A", "B"],
        "instrument": {"beam_energy_keV": 200, "takeoff_angle_deg": 20},
        "sample": {"thickness_nm": [100, 30], "density_g_cm3": [4, 1]},
        "progress": False,
    }
    image = bu.SpectrumImage.from_array(counts, energy, beam_energy_keV=200.0, takeoff_angle_deg=20.0)

    def unmix() -> object:
        changed = {
            **good,
            draw.choice(["elements", "phases", "stray", "method", "seed", "instrument", "sample"]): one(),
        }
        return bu.unmix(image, **changed)

    def unmix_keyword() -> object:
        name = draw.choice(
            ["draws", "level", "energy_range", "chains", "output", "xray", "inference", "map", "zz"]
        )
        return bu.unmix(image, **{**good, name: one()})

    def plain(function: Callable[..., Any], **fixed: object) -> object:
        arguments = {"image": counts, "phases": 2, "bins": 10, **fixed}
        names = [*arguments, "energy", "level", "seed", "spatial"]
        return function(**{**arguments, draw.choice(names): one()})

    def of_result() -> object:
        """Ask a result for something odd."""
        name, given, names = draw.choice(_RESULT_CALLS)
        arguments = {**given, draw.choice(names): one()}
        return getattr(bu.open_result(work / "out"), name)(**arguments)

    def of_image() -> object:
        """Change a map, or make one, in an odd way; it must be possible to show what comes out."""
        made = {"counts": counts, "energy_keV": energy, draw.choice(_IMAGE_FIELDS): one()}
        ways: list[Callable[[], Any]] = [
            lambda: image.masked(one()),
            lambda: image.rebin(one()),
            lambda: image.crop_energy(one(), 5.0),
            lambda: image.replace_facts(**{draw.choice(_FACTS): one()}),
            lambda: bu.SpectrumImage(**made),
            lambda: bu.load(work / "maps" / "map.hspy", **{draw.choice(_LOAD_OPTIONS): one()}),
            lambda: bu.inspect(work / "maps" / "map.hspy", signal=one()),
        ]
        return repr(draw.choice(ways)())

    calls: list[Callable[[], Any]] = [
        *[of_result] * 6,
        *[of_image] * 8,
        *[lambda: plain(bu.segment, method=draw.choice(["clustering", "nmf", "fcls"]))] * 3,
        lambda: plain(bu.segment, method="fcls", endmembers=one()),
        lambda: plain(bu.unmix_free, draws=4),
        lambda: bu.compare(
            **{"results": [bu.open_result(work / "out")] * 2, draw.choice(_COMPARE_OPTIONS): one()}
        ),
        lambda: bu.prepare(image, elements=["Mg"], phases=["A"], **{draw.choice([*KEYS][:5]): one()}),
        unmix,
        unmix,
        unmix,
        unmix_keyword,
        unmix_keyword,
        lambda: bu.unmix(one(), **good),
        lambda: bu.unmix((counts, one()), **good),
        lambda: bu.unmix((one(), energy), **good),
        lambda: bu.unmix(image, **{**good, "phases": [one(), "B"]}),
        lambda: bu.unmix(
            image, **{**good, "phases": [{"name": "A", draw.choice(KEYS["phases"]): one()}, "B"]}
        ),
        lambda: bu.load(one()),
        lambda: bu.open_result(one()),
        lambda: bu.inspect(one()),
        lambda: bu.inspect(image, one()),
        lambda: bu.Phase(one()),
        lambda: bu.Phase("A", **{draw.choice(["matrix", "absent", "stoichiometry"]): one()}),
        lambda: bu.compare(one()),
        lambda: bu.SpectrumImage.from_array(one(), energy),
        lambda: bu.SpectrumImage.from_array(counts, one()),
        lambda: bu.SpectrumImage.from_array(counts, energy, pixel_size=one()),
        lambda: bu.SpectrumImage.from_array(counts, energy, beam_energy_keV=one()),
        lambda: bu.SpectrumImage.from_signal(one()),
        lambda: bu.prepare(image, elements=one(), phases=one()),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        draw.choice(calls)()
    return 0, ""


# -- output folders ---------------------------------------------------------------------------------------------------


def folder_case(draw: random.Random, folder: Path, work: Path) -> tuple[int, str]:
    """Damage an output folder, and open it or have its tables or its report written again."""
    out = folder / "out"
    shutil.copytree(work / "out", out)
    _damage_folder(draw, out)
    what = draw.randrange(5)
    if what == 0:
        return command(["report", str(out)])
    if what == 1:
        return command(["tables", str(out)])
    if what == 3:
        where = draw.choice([out, out / "figures", out / "tables", folder / "new"])
        return command(["tables", str(out), "--out", str(where), *draw.choice([[], ["--overwrite"]])])
    if what == 2:
        return command(["compare", str(out), str(work / "out"), "--out", str(folder / "compared")])
    import bayesunmix as bu

    result = bu.open_result(out)
    repr(result)
    result._repr_html_()
    tables = (result.tables.partition, result.tables.sites, result.tables.element_budget)
    looks = (result.summary, result.abundances, result.flagged_mask, result.diagnostics)
    for look in (*tables, *looks, result.plot.maps, result.plot.fit):
        look()
    return 0, ""


def _damage_folder(draw: random.Random, out: Path) -> None:
    what = draw.randrange(10)
    path = out / draw.choice(["run.json", "posterior.nc"])
    if what == 0:
        path.unlink()
    elif what == 1:
        content = path.read_bytes()
        path.write_bytes(content[: draw.randrange(len(content))])
    elif what == 2:
        _flip(draw, path, 30)
    elif what == 3:
        path.unlink()
        path.mkdir()
    elif what == 4:
        (out / "run.json").write_text(draw.choice(["[]", "1", "null", "{", "{}", '"x"', "[" * 9000, "\x00"]))
    elif what == 5:
        _remove_variable(draw, out / "posterior.nc")
    else:
        _change_record(draw, out / "run.json")


def _remove_variable(draw: random.Random, path: Path) -> None:
    """Remove an array of the posterior, and leave the file a sound one."""
    import h5py

    with h5py.File(path, "a") as held:
        names: list[str] = []
        held.visititems(lambda name, what: names.append(name) if isinstance(what, h5py.Dataset) else None)
        del held[draw.choice(names)]


def _change_record(draw: random.Random, path: Path) -> None:
    """Remove or change a value somewhere in the record, mostly without the checksum, as is allowed."""
    record = json.loads(path.read_text(encoding="utf-8"))
    if draw.random() < 0.8:
        record.pop("checksum", None)
    place: Any = record
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice(keys)
        inside = place[key]
        if isinstance(inside, dict | list) and inside and draw.random() < 0.6:
            place = inside
            continue
        break
    if draw.random() < 0.4:
        del place[key]
    else:
        place[key] = draw.choice([None, 1, "x", [], {}, [1], {"a": 1}, True, -1.5, math.nan])
    path.write_text(json.dumps(record), encoding="utf-8")


# -- map files --------------------------------------------------------------------------------------------------------


def file_case(draw: random.Random, folder: Path, work: Path) -> tuple[int, str]:
    """Damage a map's file, and inspect or unmix it."""
    paths = sorted(path for path in (work / "maps").iterdir() if path.suffix != ".raw")
    path = draw.choice(paths)
    copy = folder / path.name
    shutil.copy(path, copy)
    if path.suffix == ".rpl" and path.with_suffix(".raw").exists():
        shutil.copy(path.with_suffix(".raw"), copy.with_suffix(".raw"))
    target = copy.with_suffix(".raw") if path.suffix == ".rpl" and draw.random() < 0.2 else copy
    what = draw.randrange(4)
    if what == 0:
        content = target.read_bytes()
        target.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif what == 1:
        _flip(draw, target, draw.choice([1, 10, 300]))
    elif what == 2:
        content = bytearray(target.read_bytes())
        start = draw.randrange(max(len(content), 1))
        size = draw.choice([8, 100, 4000])
        content[start : start + size] = bytes([draw.choice([0, 255])]) * min(size, len(content) - start)
        target.write_bytes(content)
    else:
        _change_number(draw, target)
    if draw.random() < 0.3:
        config = folder / "run.toml"
        config.write_text(toml(BASE), encoding="utf-8")
        return command(["unmix", str(copy), "--config", str(config), "--out", str(folder / "out")])
    return command(["inspect", str(copy)])


def _change_number(draw: random.Random, path: Path) -> None:
    """Replace a run of digits in a text, or flip bytes of what is none."""
    import re

    content = path.read_bytes()
    found = list(re.finditer(rb"\d+", content)) if path.suffix in (".rpl", ".msa", ".spx", ".txt") else []
    if not found:
        _flip(draw, path, 3)
        return
    match = draw.choice(found[:60])
    new = draw.choice([b"0", b"-1", b"99999999999999999999", b"1e999", b"nan", b"x", b"", b"3"])
    path.write_bytes(content[: match.start()] + new + content[match.end() :])


def _flip(draw: random.Random, path: Path, number: int) -> None:
    """Change some bytes."""
    content = bytearray(path.read_bytes())
    for _ in range(number if content else 0):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)


def command(arguments: list[str]) -> tuple[int, str]:
    """Run a command in this process; return its exit status and what it said."""
    from click.testing import CliRunner

    from bayesunmix.cli import main

    done = CliRunner().invoke(main, arguments)
    return done.exit_code, done.output


CASES = {"configs": config_case, "calls": call_case, "folders": folder_case, "files": file_case}
