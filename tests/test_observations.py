"""An exposure's identity is the archive's file name, and nothing else is let through."""

import pytest
from spxflow import observations
from spxflow.observations import Observation

STEM = "level2_2025W25_1B_0062_1D3_spx_l2b-v20-2025-253"


def test_identity_of_a_real_file_name():
    identity = observations.parse_stem(STEM + ".fits")
    assert (identity.obs_id, identity.band, identity.version) == ("2025W25_1B_0062_1", "D3", "l2b-v20-2025-253")
    assert identity.version_key < observations.parse_stem(STEM.replace("v20-2025-253", "v21-2025-001")).version_key


@pytest.mark.parametrize(
    "name",
    ["../" + STEM, STEM.replace("D3", "D7"), STEM + ".fits.gz", STEM + "\n", "", "x" * 500, STEM + "/../../x.fits"],
)
def test_names_of_another_form_are_refused(name):
    with pytest.raises(ValueError, match="not a Level-2 file name"):
        observations.parse_stem(name)


def test_table_reads_back_bit_for_bit(tmp_path):
    rows = [
        Observation(
            STEM, "2025W25_1B_0062_1", "D3", 60842.26912787, 60842.270460249, 1.6301, 2.4346, "http://x/y?a,b", "v", "c"
        ),
        Observation(STEM, "2025W25_1B_0062_1", "D4", 0.1 + 0.2, 1 / 3, 1e-6, 2.0, "", "v", "a+b"),
    ]
    observations.write_observations(tmp_path / "t.csv", rows)
    assert list(observations.read_observations(tmp_path / "t.csv")) == rows
