"""Options are checked before any work, and what is wrong is said in one line that helps."""

from pathlib import Path

import pytest
import yaml
from spxflow import config
from spxflow.errors import ConfigError
from spxflow.mef.flags import KNOWN_FLAGS

REPOSITORY = Path(__file__).parent.parent

REFUSED = [
    ({"raa": 1}, "raa: no such option; did you mean ra?"),
    ({"photometry": {"apperture": {}}}, "did you mean photometry.aperture?"),
    ({"diameter_px": 3}, "did you mean photometry.aperture.diameter_px?"),
    ({"ra": 1}, "dec: got nothing, takes a position"),
    ({"bands": "D7"}, "bands: got 'D7', takes one of D1, D2, D3, D4, D5, D6"),
    ({"bands": []}, "takes a list of at least 1 entries"),
    ({"bands": ["D1", "D1"]}, "each once"),
    ({"photometry": {"primary": "foo"}}, "photometry.primary: got 'foo', takes one of psf"),
    ({"photometry": {"primary": "aperture", "estimators": ["psf"]}}, "photometry.primary: got 'aperture'"),
    ({"plot": {"dpi": "abc"}}, "plot.dpi: got 'abc', takes a number at least 10"),
    ({"plot": {"figsize": [1]}}, "plot.figsize: got [1], takes a list of 2 entries"),
    ({"cutout": {"size": "60 feet"}}, "in px, arcsec, arcmin or deg"),
    ({"download": {"connections": 0}}, "download.connections: got 0, takes a whole number at least 1 and at most"),
    ({"archive": "x"}, "archive: got 'x', takes a section of options"),
    ({"archive": {"url": "ftp://x"}}, "archive.url: got 'ftp://x', takes an http(s) URL"),
    ({"query": {"mjd_min": "nan"}}, "query.mjd_min: got nan, takes a modified Julian date"),
    ({"query": {"mjd_min": 60002, "mjd_max": 60001}}, "query.mjd_min: got 60002"),
    ({"pmra_masyr": "inf"}, "pmra_masyr: got inf, takes a number at least"),
    ({"sources": "a.csv", "ra": 1, "dec": 1}, "sources: got a catalogue besides ra and dec"),
    ({"photometry": {"bad_flags": ["TRANSENT"]}}, "did you mean TRANSIENT?"),
    ({"photometry": {"background_flags": [40]}}, "photometry.background_flags: got 40, takes one of TRANSIENT, "),
    ({"name": "x" * 200}, "takes text of at most 100 characters or null"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED)
def test_wrong_option_is_named_with_what_it_takes(given, message):
    with pytest.raises(ConfigError) as error:
        config.complete(given)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_command_line_text_is_read_as_the_type_asked_for():
    given = {"photometry": {"aperture": {"diameter_px": "2.5"}}, "bands": "D1, D4", "plot": {"magnitude": "true"}}
    complete = config.complete(given)
    assert complete["photometry"]["aperture"]["diameter_px"] == 2.5
    assert complete["bands"] == ["D1", "D4"]
    assert complete["plot"]["magnitude"] is True


def test_a_name_of_digits_is_text():
    assert config.complete({"name": 1234})["name"] == "1234"


def test_completing_a_complete_configuration_changes_nothing():
    complete = config.complete({"ra": "14:15:46.25", "dec": 11.5, "photometry": {"psf": {"radius_px": 5}}})
    assert config.complete(complete) == complete


def test_defaults_are_valid():
    assert config.complete({}) == config.defaults()


def test_config_yaml_is_the_schema_in_words():
    text = (REPOSITORY / "config" / "config.yaml").read_text(encoding="utf-8")
    assert text == config.document()
    assert yaml.safe_load(text) == config.defaults()


def test_every_option_has_a_description():
    assert all(entry["description"].strip() for _, entry in config.options())


@pytest.mark.parametrize("option", ["bad_flags", "background_flags"])
def test_flags_of_the_schema_are_those_of_the_files(option):
    items = dict(config.options())[f"photometry.{option}"]["items"]["enum"]
    assert [flag for flag in items if isinstance(flag, str)] == list(KNOWN_FLAGS)
    assert [flag for flag in items if not isinstance(flag, str)] == list(range(32))


def test_sexagesimal_positions_of_a_file_are_read_as_written(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("ra: 00:02:10.5\ndec: -00:00:45.5\n", encoding="utf-8")
    as_read = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.positions_as_written(as_read, [path]) == {"ra": "00:02:10.5", "dec": "-00:00:45.5"}
    assert config.positions_as_written(as_read | {"dec": 5.0}, [path]) == {"ra": "00:02:10.5"}
    path.write_text("spxflow:\n  ra: 00:02:10.5\n  dec: -00:00:45.5\nother: 1\n", encoding="utf-8")
    of_module = yaml.safe_load(path.read_text(encoding="utf-8"))["spxflow"]
    assert config.positions_as_written(of_module, [path]) == {"ra": "00:02:10.5", "dec": "-00:00:45.5"}
