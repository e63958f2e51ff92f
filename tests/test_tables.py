"""The schema of the records, and tables that keep every bit of them."""

import csv
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from astropy import units
from astropy.io import votable
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from jsonschema import Draft202012Validator
from records import SOURCE, missing, real_star, record, same, simulate
from spxflow import files, spectrum, tables, variability

SCHEMA = Path(tables.__file__).parents[1] / "schemas" / "photometry.schema.json"
FORMATS = (".csv", ".ecsv", ".parquet", ".vot")
REQUIRED = {
    *("obs_id", "band", "mjd", "wavelength_um", "bandwidth_um", "flux_ujy", "flux_err_ujy", "snr"),
    *("mag_ab", "mag_ab_err", "flags", "status", "reason", "is_upper_limit", "x_pix", "y_pix"),
}
AWKWARD_FLOATS = [0.1 + 0.2, -1e-300, 2.3e-308, 1.7976931348623157e308, -0.0, 1 / 3, 60842.269794059495, None]


@pytest.fixture(scope="module")
def records():
    """Records with every kind of value: awkward floats, big flags, maps, and texts that could break a table."""
    rows = [
        record(
            obs_id=f"2025W20_1A_{number:04d}_1",
            band="D3",
            mjd=60800.0 + number / 7.0,
            wavelength_um=2.0 + number / 3.0,
            flux_ujy=value,
            flux_err_ujy=1.0,
            flags=(1 << 31) + number if number % 2 else None,
            psf_n_pixels=number or None,
            flag_fractions={"SOURCE": 1.0, "OUTLIER": 1 / 3} if number % 2 else None,
            is_blended=None if number % 3 else True,
            collection="spherex_qr2+spherex_qr2_deep",
        )
        for number, value in enumerate(AWKWARD_FLOATS)
    ]
    return [*rows, missing(file='# odd, "name"\nwith µ and <tags>'), *simulate(1, exposures=2, passes=1)]


@pytest.fixture(params=FORMATS)
def written(request, tmp_path, records):
    path = tmp_path / f"lightcurve{request.param}"
    tables.write_lightcurve(records, path, SOURCE)
    return path


def read_astropy(path):
    """A table as astropy reads it without being told anything but the name of the plain format."""
    if path.suffix == ".csv":
        return Table.read(path, format="ascii.csv", comment="#", fill_values=[("", "0")])
    return Table.read(path)


def absent(column, row):
    return bool(np.ma.getmaskarray(column)[row])


# --- the schema --------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [tables.COLUMNS, spectrum.COLUMNS, variability.COLUMNS])
def test_every_column_has_a_known_unit_ucd_and_description(columns):
    assert len({column.name for column in columns}) == len(columns)
    for column in columns:
        units.Unit(column.unit)
        assert check_ucd(column.ucd, check_controlled_vocabulary=True), column
        assert column.type in {"text", "float", "int", "bool", "map"}
        assert column.description
        assert column.description.isascii() or column.unit, "plain words travel best"


def test_names_of_units_agree_with_the_names_of_columns():
    endings = {"_um": "um", "_ujy": "uJy", "_deg": "deg", "_arcsec": "arcsec", "_mjysr": "MJy/sr", "_px": "pix"}
    for column in tables.COLUMNS:
        for ending, unit in endings.items():
            if column.name.endswith(ending):
                assert column.unit == unit, column.name


def test_the_light_curve_starts_with_the_promised_columns(tmp_path, records):
    path = tmp_path / "lightcurve.csv"
    tables.write_lightcurve(records, path, SOURCE)
    header = next(line for line in path.read_text().splitlines() if not line.startswith("#"))
    names = header.split(",")
    assert names == [column.name for column in tables.COLUMNS]
    assert set(names) >= REQUIRED


def test_an_empty_record_has_every_key_and_no_value():
    assert tables.empty_record() == {column.name: None for column in tables.COLUMNS}


# --- photometry.json ---------------------------------------------------------------------------


def document(records):
    return tables.photometry_document(SOURCE, {"photometry": {}}, records)


def test_the_shipped_schema_is_the_one_of_the_columns():
    assert json.loads(SCHEMA.read_text()) == tables.photometry_schema(), (
        "write it anew: python -m spxflow.tables > workflow/schemas/photometry.schema.json"
    )


def test_photometry_documents_are_valid_and_strict_json(tmp_path, records):
    files.write_json(tmp_path / "photometry.json", document(records))
    read = json.loads((tmp_path / "photometry.json").read_text(), parse_constant=pytest.fail)
    Draft202012Validator(tables.photometry_schema()).validate(read)
    assert read["exposures"] == json.loads(json.dumps(tables.in_order(records)))


@pytest.mark.parametrize(
    "wrong",
    [{"status": "fine"}, {"flux_ujy": "12"}, {"flags": 1.5}, {"reason": None}, {"unheard_of": 1}, {"is_good": 1}],
)
def test_the_schema_refuses_wrong_records(wrong):
    validator = Draft202012Validator(tables.photometry_schema())
    assert validator.is_valid(document([missing()]))
    assert not validator.is_valid(document([{**missing(), **wrong}]))


def test_the_schema_misses_absent_keys():
    incomplete = missing()
    del incomplete["flux_ujy"]
    assert not Draft202012Validator(tables.photometry_schema()).is_valid(document([incomplete]))


def test_records_are_ordered_by_time_then_band():
    shuffled = [record(mjd=mjd, band=band) for mjd, band in [(2.0, "D1"), (None, "D1"), (1.0, "D4"), (1.0, "D1")]]
    ordered = [(row["mjd"], row["band"]) for row in tables.in_order(shuffled)]
    assert ordered == [(1.0, "D1"), (1.0, "D4"), (2.0, "D1"), (None, "D1")]


# --- values ------------------------------------------------------------------------------------


def test_values_survive_every_format_bit_for_bit(written, records):
    table = read_astropy(written)
    rows = tables.in_order(records)
    assert len(table) == len(rows)
    for column in tables.COLUMNS:
        for row, expected in enumerate(rows):
            value, got = expected[column.name], table[column.name][row]
            if value is None:
                assert absent(table[column.name], row) or got in ("", None) or got != got, column.name
            elif column.type == "float":
                assert same(value, got), column.name
            elif column.type == "int":
                assert int(got) == value, column.name
            elif column.type == "bool":
                assert str(got) == str(value), column.name
            elif column.type == "map":
                assert json.loads(got) == value, column.name
            elif value:
                assert got == value, column.name


def test_units_descriptions_and_ucds_stay(written):
    table = read_astropy(written)
    if written.suffix == ".csv":
        header = [line for line in written.read_text().splitlines() if line.startswith("#")]
        for column in tables.COLUMNS:
            unit = f" [{column.unit}]" if column.unit else ""
            assert f"# {column.name}{unit}: {column.description}" in header
        return
    for column in tables.COLUMNS:
        assert table[column.name].unit == (units.Unit(column.unit) if column.unit else None), column.name
        assert " ".join(table[column.name].description.split()) == column.description
        assert table[column.name].meta["ucd"] == column.ucd


def test_the_source_is_told_in_every_format(written):
    if written.suffix == ".csv":
        assert "# ra_deg: 213.942708\n# dec_deg: 11.495389\n" in written.read_text()
    elif written.suffix == ".vot":
        infos = {info.name: info.value for info in votable.parse(written).get_first_table().infos}
        assert (infos["source"], float(infos["ra_deg"])) == ("a star", 213.942708)
    else:
        assert (Table.read(written).meta["source"], Table.read(written).meta["ra_deg"]) == ("a star", 213.942708)


def test_pandas_reads_csv_and_parquet(tmp_path, records):
    rows = tables.in_order(records)
    for suffix, read in (
        (".csv", lambda path: pandas.read_csv(path, comment="#")),
        (".parquet", pandas.read_parquet),
    ):
        path = tmp_path / f"lightcurve{suffix}"
        tables.write_lightcurve(records, path, SOURCE)
        frame = read(path)
        for name in ("flux_ujy", "mjd", "wavelength_um", "snr"):
            assert all(same(row[name], value) for row, value in zip(rows, frame[name], strict=True))
        assert list(frame["status"]) == [row["status"] for row in rows]


def test_pandas_is_not_confused_by_awkward_text(tmp_path):
    text = 'first, "second" # third\nfourth\ttab'
    tables.write_lightcurve([missing(reason=text)], tmp_path / "a.csv", SOURCE)
    lines = [line for line in (tmp_path / "a.csv").read_text().splitlines(keepends=True) if line[0] != "#"]
    assert next(csv.DictReader(lines))["reason"] == text
    assert pandas.read_csv(tmp_path / "a.csv", comment="#")["reason"][0] == text


def test_a_source_name_cannot_break_the_header(tmp_path):
    tables.write_lightcurve([missing()], tmp_path / "a.csv", {**SOURCE, "name": "two\nlines"})
    assert len(pandas.read_csv(tmp_path / "a.csv", comment="#")) == 1


def test_parquet_columns_carry_their_units_for_other_readers(tmp_path, records):
    tables.write_lightcurve(records, tmp_path / "a.parquet", SOURCE)
    schema = pyarrow.parquet.read_schema(tmp_path / "a.parquet")
    assert schema.field("flux_ujy").metadata[b"unit"] == b"uJy"
    assert str(schema.field("flags").type) == "int64"
    assert str(schema.field("is_good").type) == "bool"
    nulls = pyarrow.parquet.read_table(tmp_path / "a.parquet")["flags"].null_count
    assert nulls == sum(row["flags"] is None for row in records)


def test_votables_are_valid_and_say_what_time_it_is(tmp_path, records):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tables.write_lightcurve(records, tmp_path / "a.vot", SOURCE)
        document = votable.parse(tmp_path / "a.vot", verify="exception")
    fields = {field.name: field for field in document.get_first_table().fields}
    systems = {system.ID: system.timescale for system in document.resources[0].time_systems}
    assert systems[fields["mjd"].ref] == "UTC"
    assert systems[fields["bjd_tdb"].ref] == "TDB"
    assert fields["ra_deg"].ref == document.resources[0].coordinate_systems[0].ID


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_records_give_the_same_bytes(tmp_path, suffix):
    star = real_star()
    for name in ("a", "b"):
        tables.write_lightcurve(star, tmp_path / f"{name}{suffix}", SOURCE)
        star.reverse()
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_exposures_give_a_table_without_rows(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    tables.write_lightcurve([], path, SOURCE)
    table = read_astropy(path)
    assert len(table) == 0
    assert table.colnames == [column.name for column in tables.COLUMNS]


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no table format for '\.xls'.*\.csv"):
        tables.write_lightcurve([], tmp_path / "a.xls", SOURCE)


def test_values_that_are_not_numbers_are_refused_in_maps(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        tables.write_lightcurve([missing(flag_fractions={"HOT": math.nan})], tmp_path / "a.csv", SOURCE)


def test_the_irsa_table_has_the_tools_names_and_joins_by_exposure(tmp_path, records):
    tables.write_irsa_table(records, tmp_path / "irsa.ecsv", SOURCE)
    table = Table.read(tmp_path / "irsa.ecsv")
    tool = {
        *("ra", "dec", "x_image", "y_image", "mjd", "flux_bkg", "flags", "det_id", "obs_publisher_did"),
        *("lambda", "lambda_width", "flux", "flux_err"),
    }
    assert set(table.colnames) == tool
    assert table["lambda"].unit == units.um
    rows = tables.in_order(records)
    assert all(same(row["flux_ujy"], value) for row, value in zip(rows, table["flux"], strict=True))
    first = next(row for row in range(len(rows)) if rows[row]["obs_id"] == "2025W20_1A_0000_1")
    assert table["obs_publisher_did"][first] == "ivo://irsa.ipac/spherex_qr2?2025W20_1A_0000_1/D3"
