"""Tables as the tools people use read them: STILTS (which is TOPCAT's), specutils, pandas, astropy."""

import csv
import json
import re
import subprocess

import debian
import numpy as np
import pandas
import pytest
from astropy import units
from astropy.table import Table
from records import SOURCE, real_star, same
from spxflow import catalogue, spectrum, tables, variability
from spxflow.spectrum import SpectrumSettings
from spxflow.variability import VariabilitySettings

SCHEMAS = {
    "lightcurve": tables.COLUMNS,
    "spectrum": spectrum.COLUMNS,
    "matched_lightcurve": variability.COLUMNS,
    "catalogue": (catalogue.SOURCE_COLUMN, *tables.COLUMNS),
    "catalogue_summary": catalogue.SUMMARY_COLUMNS,
}
FORMATS = (".csv", ".ecsv", ".parquet", ".vot")
VALUES = {
    "float": (0.1 + 0.2, -1e-300, 1e-300, 2.3e-308, 1.7976931348623157e308, -0.0, 1 / 3, None),
    "int": (0, (1 << 31) + 5, -((1 << 53) + 1), (1 << 63) - 1, None),
    "bool": (True, False, None),
    "text": ("plain", 'a, "b"; c', "two\nlines", "# first", "after #3", "µ Cen ☄ 星", "<tag> & more", None),
    "map": ({"OUTLIER": 1 / 3, "SOURCE": 1.0}, {}, None),
}
METADATA = {"title": "a title", **tables.source_metadata({**SOURCE, "name": "star #1, µ"})}


def awkward_rows(columns, ascii_only=False):
    """Rows in which every column has each of the values of its type, and neighbours have different ones."""

    def value(number, column):
        values = [one for one in VALUES[column.type] if not ascii_only or str(one).isascii()]
        return values[number % len(values)]

    return [{column.name: value(row + place, column) for place, column in enumerate(columns)} for row in range(24)]


def assert_same(column, expected, got):
    """A value is what was written, bit for bit; how a tool says that there is none is its own."""
    if expected is None:
        assert got is None or got is pandas.NA or got == "" or got != got or np.ma.is_masked(got), column.name
    elif column.type == "float":
        assert same(expected, got), column.name
    elif column.type == "int":
        assert int(got) == expected, column.name
    elif column.type == "bool":
        assert str(got).lower() == str(expected).lower(), column.name
    elif column.type == "map":
        assert json.loads(got) == expected, column.name
    else:
        assert got == expected, column.name


def assert_same_rows(columns, rows, read):
    """``read`` gives the values of a column by its name."""
    for column in columns:
        values = list(read(column.name))
        assert len(values) == len(rows)
        for row, got in zip(rows, values, strict=True):
            assert_same(column, row[column.name], got)


@pytest.fixture(params=SCHEMAS)
def columns(request):
    return SCHEMAS[request.param]


# --- astropy and pandas ------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ecsv", ".vot"])
def test_astropy_reads_every_bit(tmp_path, columns, suffix):
    rows = awkward_rows(columns)
    tables.write_table(rows, tmp_path / f"a{suffix}", columns, METADATA)
    table = Table.read(tmp_path / f"a{suffix}")
    assert_same_rows(columns, rows, lambda name: table[name])
    assert [table[column.name].unit for column in columns] == [
        units.Unit(column.unit) if column.unit else None for column in columns
    ]


PANDAS_TYPES = {"float": "Float64", "int": "Int64", "bool": "boolean", "text": "string", "map": "string"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_pandas_reads_every_bit_with_the_type_of_each_column(tmp_path, columns, suffix):
    """With the types that have missing values; by default an integer or boolean column with one is read as floats."""
    rows = awkward_rows(columns)
    tables.write_table(rows, tmp_path / f"a{suffix}", columns, METADATA)
    read, options = (pandas.read_csv, {"comment": "#"}) if suffix == ".csv" else (pandas.read_parquet, {})
    frame = read(tmp_path / f"a{suffix}", dtype_backend="numpy_nullable", **options)
    assert_same_rows(columns, rows, lambda name: frame[name])
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        column.name: PANDAS_TYPES[column.type] for column in columns
    }


def test_pandas_reads_ecsv_and_votable_by_way_of_astropy(tmp_path):
    tables.write_lightcurve(real_star(), tmp_path / "a.ecsv", SOURCE)
    tables.write_lightcurve(real_star(), tmp_path / "a.vot", SOURCE)
    for frame in (Table.read(tmp_path / name).to_pandas() for name in ("a.ecsv", "a.vot")):
        kinds = [str(frame[name].dtype) for name in ("flux_ujy", "mjd", "flags", "is_good")]
        assert kinds == ["float64", "float64", "int64", "bool"]
        assert frame["status"].value_counts().to_dict() == {"ok": 269, "unusable": 9}


def test_the_files_of_a_catalogue_are_read(tmp_path):
    sources = [
        ({**SOURCE, "key": key, "name": f"star #{key}, µ"}, real_star()[:count]) for key, count in (("a", 3), ("b", 5))
    ]
    catalogue.write_catalogue(sources, tmp_path / "catalogue.parquet", tmp_path / "catalogue.csv")
    frame = pandas.read_parquet(tmp_path / "catalogue.parquet")
    assert frame.groupby("source").size().to_dict() == {"a": 3, "b": 5}
    written = [row["flux_ujy"] for _, rows in sources for row in tables.in_order(rows)]
    assert list(frame["flux_ujy"]) == written
    assert Table.read(tmp_path / "catalogue.parquet")["flux_ujy"].unit == units.uJy
    assert list(pandas.read_csv(tmp_path / "catalogue.csv", comment="#")["name"]) == ["star #a, µ", "star #b, µ"]


# --- STILTS ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stilts():
    """Function that runs STILTS, whose readers are those of TOPCAT, and returns what it prints."""
    try:
        debian.have(("stilts",), ("stilts", "starlink-ecsv-java"))
    except debian.UnavailableError as error:
        pytest.skip(f"no STILTS: {error}")

    def run(*words):
        done = subprocess.run(["stilts", *map(str, words)], capture_output=True, text=True, timeout=120, check=False)
        if "Unknown format ecsv" in done.stderr:
            pytest.skip("this STILTS reads no ECSV: apt-get install starlink-ecsv-java")
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


STILTS_TYPES = {"float": "Double", "int": "Long", "bool": "Boolean", "text": "String", "map": "String"}


@pytest.mark.parametrize("form", ["votable", "ecsv"])
def test_topcat_reads_every_bit_and_the_units(tmp_path, columns, stilts, form):
    # ECSV in ASCII alone: STILTS 3.4.7 takes its UTF-8 for Latin-1
    rows = awkward_rows(columns, ascii_only=form == "ecsv")
    path = tmp_path / ("a.vot" if form == "votable" else "a.ecsv")
    tables.write_table(rows, path, columns, METADATA)
    stilts("tpipe", f"in={path}", f"ifmt={form}", "ofmt=csv", f"out={tmp_path}/b.csv")
    with open(tmp_path / "b.csv", newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert_same_rows(columns, rows, lambda name: [row[name] for row in read])

    meta = stilts("tpipe", f"in={path}", f"ifmt={form}", "omode=meta")
    told = re.findall(r"^ *\d+: (\w+)\((\w+)\)(?:/(.+?))?(?: - .*)?$", meta, re.MULTILINE)
    assert [(name, kind, units.Unit(unit)) for name, kind, unit in told] == [
        (column.name, STILTS_TYPES[column.type], units.Unit(column.unit)) for column in columns
    ]


def test_votables_are_without_error_for_the_validator(tmp_path, columns, stilts):
    for rows in (awkward_rows(columns), [], [dict.fromkeys(column.name for column in columns)]):
        tables.write_table(rows, tmp_path / "a.vot", columns, METADATA)
        assert "ERROR" not in stilts("votlint", f"votable={tmp_path}/a.vot")


def test_the_validator_finds_errors(tmp_path, stilts):
    tables.write_table([], tmp_path / "a.vot", spectrum.COLUMNS, METADATA)
    spoilt = (tmp_path / "a.vot").read_text(encoding="utf-8").replace('datatype="long"', 'datatype="lang"')
    (tmp_path / "b.vot").write_text(spoilt, encoding="utf-8")
    assert "ERROR" in stilts("votlint", f"votable={tmp_path}/b.vot")


def test_csv_tables_are_read_by_topcat_without_their_comments(tmp_path, stilts):
    rows = awkward_rows(tables.COLUMNS)
    tables.write_table(rows, tmp_path / "a.csv", tables.COLUMNS, METADATA)
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "b.csv").write_text("".join(line for line in lines if line[0] != "#"), encoding="utf-8")
    meta = stilts("tpipe", f"in={tmp_path}/b.csv", "ifmt=csv", "omode=meta")
    assert f"Columns: {len(tables.COLUMNS)}" in meta


# --- specutils ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def specutils():
    return pytest.importorskip("specutils", reason="specutils is not installed (group dev)")


def test_specutils_reads_a_spectrum_with_units_and_uncertainties(tmp_path, specutils):
    rows = spectrum.combine(real_star(), SpectrumSettings())
    tables.write_product(rows, tmp_path / "spectrum.ecsv", spectrum.COLUMNS, "a title", SOURCE)
    read = specutils.Spectrum.read(tmp_path / "spectrum.ecsv")
    assert (read.spectral_axis.unit, read.flux.unit) == (units.um, units.uJy)
    assert read.uncertainty.uncertainty_type == "std"
    assert read.uncertainty.unit == units.uJy
    for name, values in (
        ("wavelength_um", read.spectral_axis.value),
        ("flux_ujy", read.flux.value),
        ("flux_err_ujy", read.uncertainty.array),
    ):
        assert all(same(row[name], value) for row, value in zip(rows, values, strict=True)), name
    assert read.meta["header"]["source"] == SOURCE["name"]


def test_specutils_works_with_what_it_read(tmp_path, specutils):
    """A channel without exposures is NaN, and neither shifts nor fills the others."""
    from specutils.analysis import snr

    rows = spectrum.combine(real_star(), SpectrumSettings())
    tables.write_product(rows, tmp_path / "spectrum.ecsv", spectrum.COLUMNS, "a title", SOURCE)
    read = specutils.Spectrum.read(tmp_path / "spectrum.ecsv")
    assert np.isnan(read.flux.value).sum() == sum(row["n_used"] == 0 for row in rows) > 0
    ratios = [row["flux_ujy"] / row["flux_err_ujy"] for row in rows if row["n_used"]]
    whole = specutils.Spectrum(
        flux=read.flux[~np.isnan(read.flux)],
        spectral_axis=read.spectral_axis[~np.isnan(read.flux)],
        uncertainty=read.uncertainty[~np.isnan(read.flux)],
    )
    assert snr(whole).value == pytest.approx(np.mean(ratios))


def test_matched_light_curves_are_written_in_every_format(tmp_path):
    rows = variability.matched_lightcurve(real_star(), VariabilitySettings(), SpectrumSettings())
    assert rows
    for suffix in FORMATS:
        tables.write_product(rows, tmp_path / f"a{suffix}", variability.COLUMNS, "a title", SOURCE)
    for suffix in (".ecsv", ".vot", ".parquet"):
        table = Table.read(tmp_path / f"a{suffix}")
        assert_same_rows(variability.COLUMNS, rows, lambda name, table=table: table[name])
