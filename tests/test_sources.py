"""Positions in the forms people write, and directory names that are safe."""

import pytest
from spxflow import config, sources
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
    [("M 31", "M_31"), ("../../etc/passwd", "etc_passwd"), ("3C 273", "3C_273"), ("-rf", "rf"), ("é", None)],
)
def test_directory_key_is_one_safe_path_component(name, key):
    if key is None:
        with pytest.raises(ConfigError, match="^name:"):
            sources.directory_key(name)
    else:
        assert sources.directory_key(name) == key


def test_source_takes_its_name_from_the_position():
    source = sources.source_from_config(config.complete({"ra": 10.5, "dec": "-41:16:09", "pmra_masyr": 5}))
    assert source.key == source.name == "J004200.00-411609.0"
    assert source.pmra_masyr == 5.0
