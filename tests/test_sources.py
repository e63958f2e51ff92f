"""Positions in the forms people write, and directory names that are safe."""

import dataclasses

import pytest
from spxflow import config, sources, state
from spxflow.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "degrees"),
    [
        (213.942708, 213.942708),
        ("213.942708", 213.942708),
        ("14:15:46.25", 213.9427083333),
        ("14h15m46.25s", 213.9427083333),
    ],
)
def test_right_ascension(text, degrees):
    assert sources.parse_ra_deg(text) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize(("text", "degrees"), [(-0.5, -0.5), ("-00:30:00", -0.5), ("+11d29m43.4s", 11.4953888889)])
def test_declination(text, degrees):
    assert sources.parse_dec_deg(text) == pytest.approx(degrees, abs=1e-9)


@pytest.mark.parametrize("text", ["", "north", "12:99:00", "nan", True, 360.0, -1])
def test_wrong_right_ascension_is_refused(text):
    with pytest.raises(ConfigError, match="^ra: got"):
        sources.parse_ra_deg(text)


@pytest.mark.parametrize("text", ["", 95, "-91", "inf", "south"])
def test_wrong_declination_is_refused(text):
    with pytest.raises(ConfigError, match="^dec: got"):
        sources.parse_dec_deg(text)


def test_position_name_is_truncated_not_rounded():
    assert sources.position_name(213.942708, 11.495389) == "J141546.24+112943.4"
    assert sources.position_name(0.0, -0.0001) == "J000000.00-000000.3"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("M 31", "M_31"),
        ("../../etc/passwd", "etc_passwd"),
        ("3C 273", "3C_273"),
        ("-rf", "rf"),
        ("+41 3165", "41_3165"),
        ("...", None),
        ("+", None),
        ("None", None),
    ],
)
def test_directory_key_is_one_safe_path_component(name, key):
    if key is None:
        with pytest.raises(ConfigError, match="^name:"):
            sources.directory_key(name)
    else:
        assert sources.directory_key(name) == key


def test_names_that_differ_in_other_letters_have_directories_of_their_own():
    keys = {sources.directory_key(name) for name in ("α Cen", "β Cen", "é", "Cen")}
    assert len(keys) == 4
    assert all(key.isascii() and "/" not in key and key[0].isalnum() for key in keys)


def test_source_takes_its_name_from_the_position():
    source = sources.source_from_config(config.complete({"ra": 10.5, "dec": "-41:16:09", "pmra_masyr": 5}))
    assert source.key == source.name == "J004200.00-411609.0"
    assert source.pmra_masyr == 5.0


def write(tmp_path, text):
    path = tmp_path / "catalogue.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_catalogue_with_forgiving_names_and_ids_as_text(tmp_path):
    path = write(
        tmp_path,
        "# my stars\nSource_ID,RA_ICRS,DE_ICRS,pmRA,pmDE,ref_epoch\n"
        "0012345678901234567,10.5,-41.25,1.5,-2.5,2015.5\n\n4012093916593061120,14:15:46.25,+11:29:43.4,,,\n",
    )
    first, second = sources.read_catalogue(path).values()
    assert (first.key, first.pmra_masyr, first.pmdec_masyr, first.epoch_yr) == (
        "0012345678901234567",
        1.5,
        -2.5,
        2015.5,
    )
    assert second.key == second.name == "4012093916593061120"
    assert second.ra_deg == pytest.approx(213.9427083333)
    assert second.epoch_yr == 2016.0


def test_a_motion_without_a_value_is_none(tmp_path):
    path = write(tmp_path, "ra,dec,pmra,pmdec,plx,epoch\n1,2,null,NaN,--,\n")
    (source,) = sources.read_catalogue(path, default_epoch_yr=2015.5).values()
    assert (source.pmra_masyr, source.pmdec_masyr, source.parallax_mas, source.epoch_yr) == (0.0, 0.0, 0.0, 2015.5)


def test_empty_cells_at_the_end_of_a_line_are_nothing(tmp_path):
    assert list(sources.read_catalogue(write(tmp_path, "id,ra,dec\n7,1,2, ,\n"))) == ["7"]


@pytest.mark.parametrize(
    "line", ["1,a name,2,3,-0.4", "1,!!!,2,3,1", f"1,{'long ' * 30},2,3,1", "1,a/b,2,3,1", "a_b,a/b,2,3,1"]
)
def test_the_record_of_a_source_of_a_catalogue_repeats_its_run(tmp_path, line):
    (source,) = sources.read_catalogue(write(tmp_path, f"id,name,ra,dec,parallax\n{line}\n")).values()
    record = state.run_state(config.complete({"sources": "c.csv"}), dataclasses.asdict(source), {}, [], [], None, "now")
    again = sources.source_from_config(config.complete(record))
    assert dataclasses.replace(again, name="") == dataclasses.replace(source, name="")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column ra; it has no header"),
        ("id,ra\n1,2\n", "no column dec; it has id, ra"),
        ("id,ra,dec\n", "at least one source"),
        ("id,ra,dec\n1,2,3\n1,4,5\n", "line 3: id '1' is there twice"),
        ("id,ra,dec\na,2,95\n", "line 2: dec: got 95"),
        ("id,ra,dec,pmra\n# a comment\nb,2,5,fast\n", "line 3: pmra: got 'fast', takes a number"),
        ("id,ra,dec\na/b,2,3\na_b,2,3\n", "line 3: id 'a_b' is there twice"),
    ],
)
def test_a_catalogue_that_cannot_be_used_is_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(ConfigError, match="^sources: ") as error:
        sources.read_catalogue(write(tmp_path, text))
    assert message in str(error.value)


def test_a_missing_catalogue_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="^sources: got .* takes a CSV catalogue that can be read"):
        sources.read_catalogue(tmp_path / "none.csv")


def test_separations_are_exact_for_small_angles_and_over_the_meridian():
    def at(ra_deg, dec_deg):
        return sources.Source("k", "k", ra_deg, dec_deg)

    target = at(0.0001, 60.0)
    separations = [sources.separation_arcsec(target, at(*there)) for there in ((359.9999, 60.0), (0.0001, 60.0004))]
    assert separations == pytest.approx([0.36, 1.44], rel=1e-6)
    assert sources.separation_arcsec(target, at(180.0001, -60.0)) == pytest.approx(180.0 * 3600.0)
    assert sources.separation_arcsec(target, target) == 0.0


def test_a_catalogue_reads_back_as_written(tmp_path):
    written = [
        sources.Source("7", "Clover, leaf", 213.9, 11.5, 0.1 + 0.2, -1.0, 3.0, 2015.5),
        sources.Source("8", "b", 1.0, -2.0),
    ]
    sources.write_catalogue(tmp_path / "c.csv", written)
    assert list(sources.read_catalogue(tmp_path / "c.csv").values()) == written
