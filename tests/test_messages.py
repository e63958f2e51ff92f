"""Wrong uses, and the one line that each gets: what is wrong, and what to do.

That two runs on one source do not mix, and what an interrupted run leaves, are in `test_workflow`
and `test_resilience`.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Workflow
from spxflow import config, plots, transfer
from spxflow.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parent.parent))
from scripts import read_sources

AT = {"ra": 10.0, "dec": 20.0}
CLOSED = "http://127.0.0.1:9"
NOWHERE = {"sesame_url": CLOSED, "retries": 0}


def at(**options):
    return {**AT, **options}


def table(content):
    return {"sources": "c.csv", "content": content}


OPTIONS = {
    "words for a position": (
        at(ra="abc"),
        "ra: got 'abc', takes a number of degrees or a sexagesimal position, as 213.94",
    ),
    "decimal comma": (at(ra="213,94"), "ra: got '213,94', takes a number of degrees"),
    "ra beyond the circle": (at(ra=361), "ra: got 361, takes degrees from 0 up to 360, or hours"),
    "ra without end": (at(ra=10**400), "ra: got 1000"),
    "dec 95": (at(dec=95), "dec: got 95, takes degrees from -90 to 90, or +11:29:43.4 (are ra and dec swapped?)"),
    "ra and dec swapped": ({"ra": -41.3, "dec": 10.5}, "ra: got -41.3, takes degrees from 0 up to 360"),
    "swapped, told": ({"ra": -41.3, "dec": 10.5}, "are ra and dec swapped?"),
    "ra alone": ({"ra": 10}, "dec: got nothing, takes a position since the other coordinate is given"),
    "minutes over 60": (at(dec="12:99:00"), "dec: got '12:99:00', takes a number of degrees"),
    "name of dots": (at(name="..."), "name: got '...', takes 1 to 100 characters with at least one letter or digit"),
    "name that nobody knows here": ({"name": "M 31", "archive": NOWHERE}, "name 'M 31' cannot be resolved"),
    "resolver away": (
        {"name": "M 31", "archive": NOWHERE},
        "Connection refused; is the network up, .* give ra and dec",
    ),
    "long name": (at(name="x" * 101), "name: got 'xxx.*, takes text of at most 100 characters"),
    "option that another version had": (
        at(photometry={"recentre": True}, state={"versions": {"spxflow": "0.0.9"}}),
        "photometry.recentre: no such option; .* (the file is of spxflow 0.0.9, this is .*: take the option out of it)",
    ),
    "unknown option": (at(bandz="D1"), "bandz: no such option; did you mean bands?"),
    "option in capitals": (at(RA=1), "RA: no such option; did you mean ra?"),
    "option of a section outside": (at(diameter_px=3), "did you mean photometry.aperture.diameter_px?"),
    "section that is a word": (at(plot="x"), "plot: got 'x', takes a section of options"),
    "word for a number": (at(plot={"dpi": "high"}), "plot.dpi: got 'high', takes a number at least 10"),
    "half a retry": (at(download={"retries": 2.5}), "download.retries: got 2.5, takes a whole number"),
    "neither true nor false": (at(plot={"magnitude": "maybe"}), "plot.magnitude: got 'maybe', takes true or false"),
    "detector in small letters": (at(bands="d1"), "bands: got 'd1', takes one of D1, .* did you mean D1?"),
    "detector 7": (at(bands=[7]), "bands: got '7', takes one of D1, D2, D3, D4, D5, D6"),
    "detector D7": (at(bands="D7"), "bands: got 'D7', takes one of D1, D2, D3, D4, D5, D6"),
    "detector by number": (at(bands=3), "bands: got '3', takes one of D1, .* did you mean D3?"),
    "detectors without commas": (at(bands="D1 D4"), "bands: got 'D1 D4', takes one of D1"),
    "detector twice": (at(bands="D1,D1"), "bands: got ['D1', 'D1'], takes .* each once"),
    "no detector": (at(bands=""), "bands: got [], takes a list of at least 1 entries"),
    "size without unit": (
        at(cutout={"size": 60}),
        "cutout.size: got '60', takes a width, or width,height, in px, arcsec",
    ),
    "size beyond the detector": (at(cutout={"size": "3000px"}), "cutout.size: got '3000px', .* of 1 to 2040 pixels"),
    "size of nothing": (at(cutout={"size": "0px"}), "cutout.size: got '0px', takes .* of 1 to 2040 pixels"),
    "size below nothing": (at(cutout={"size": "-60px"}), "cutout.size: got '-60px', takes a width, or width,height"),
    "size in two units": (at(cutout={"size": "60px,3arcmin"}), "cutout.size: got '60px,3arcmin', takes a width, or"),
    "size alone": (at(cutout="60px"), "cutout: got '60px', takes a section of options"),
    "centre off the sky": (at(cutout={"center": "400,95"}), "cutout.center: got '400,95', takes ra,dec in degrees (0"),
    "fit without pixels": (
        at(photometry={"psf": {"radius_px": 0.1}}),
        "photometry.psf.radius_px: got 0.1, takes a number at least 1 and at most 50",
    ),
    "flag by a bit too high": (at(photometry={"bad_flags": [40]}), "photometry.bad_flags: got 40, .* from 0 to 31"),
    "exposure that is none": (at(qa={"exposures": "1"}), "qa.exposures: got '1', takes names as 2025W25_1B_0062_1D3"),
    "collection of another mission": (
        at(archive={"collections": "wise"}),
        "archive.collections: got 'wise', takes names as spherex_qr2",
    ),
    "address of a search": (at(archive={"url": "http://x/?a=1"}), "archive.url: got 'http://x/?a=1', takes an http(s)"),
    "service in capitals": (at(archive={"service": "TAP"}), "archive.service: got 'TAP', .* did you mean tap?"),
    "other spelling": (
        at(calibration={"harmonize": True}),
        "calibration.harmonize: no such option; did you mean calibration.harmonise?",
    ),
    "centre that is a word": (at(cutout={"center": "here"}), "cutout.center: got 'here', takes ra,dec in degrees"),
    "unknown flag": (at(photometry={"bad_flags": ["HOTT"]}), "photometry.bad_flags: got 'HOTT', .* did you mean HOT?"),
    "unknown colour map": (at(plot={"date_cmap": "virids"}), "plot.date_cmap: got 'virids', .* did you mean viridis"),
    "unknown estimator": (at(photometry={"primary": "psff"}), "photometry.primary: got 'psff', .* did you mean psf?"),
    "estimator that is not made": (
        at(photometry={"primary": "aperture", "estimators": "psf"}),
        "photometry.primary: got 'aperture', takes an estimator of photometry.estimators (psf)",
    ),
    "date for an MJD": (
        at(query={"mjd_min": "2025-05-01"}),
        "query.mjd_min: .* takes a modified Julian date, as 60796.5",
    ),
    "times the wrong way": (
        at(query={"mjd_min": 60002, "mjd_max": 60001}),
        "query.mjd_min: got 60002, takes a time before query.mjd_max 60001",
    ),
    "a Julian date": (at(query={"mjd_min": 2460842.5}), "query.mjd_min: got 2460842.5, takes a modified Julian date"),
    "a year": (at(query={"mjd_max": 2025.5}), "query.mjd_max: got 2025.5, takes a modified Julian date, as 60796.5"),
    "radius below nothing": (at(query={"radius_arcsec": -1}), "query.radius_arcsec: got -1, takes a number at least 0"),
    "radius with a unit": (at(query={"radius_arcsec": "5 arcsec"}), "query.radius_arcsec: got '5 arcsec', takes a num"),
    "age below nothing": (at(query={"max_age_days": -1}), "query.max_age_days: got -1, takes a number at least 0"),
    "scales the wrong way": (
        at(photometry={"zodi": {"scale_min": 11}}),
        "photometry.zodi.scale_min: got 11, takes less",
    ),
    "percentiles the wrong way": (
        at(plot={"ylim_percentiles": "99,1"}),
        "plot.ylim_percentiles: .* the lower percentile",
    ),
    "host without scheme": (
        at(archive={"url": "irsa.edu"}),
        "archive.url: got 'irsa.edu', takes an http(s) URL, as https",
    ),
    "port that is none": (at(archive={"url": "http://x:9999999"}), "archive.url: got 'http://x:9999999', takes"),
    "table format": (
        at(tables={"formats": "fits"}),
        "tables.formats: got 'fits', takes one of csv, ecsv, parquet, vot",
    ),
    "no product": (at(products=""), "products: got [], takes a list of at least 1 entries (one of query_summary"),
    "all products": (at(products="all"), "products: got 'all', takes one of query_summary, downloads"),
    "picture format": (at(pictures={"formats": "jpg"}), "pictures.formats: got 'jpg', .* did you mean png?"),
    "product in the plural": (at(products="lightcurves"), "products: .* did you mean lightcurve?"),
    "directory with a wildcard": (
        at(outdir="a{b}"),
        "outdir: got 'a{b}', takes a directory without {, } and $ in its name",
    ),
    "directory of no known variable": (
        at(outdir="$NOWHERE/out"),
        "outdir: got '$NOWHERE/out', takes a directory without {, } and $ in its name",
    ),
    "directory that is a file": (
        at(outdir="file/out"),
        "outdir: got 'file/out', takes a directory that can be written",
    ),
    "directory too long": (at(outdir="x" * 300), "outdir: got 'xxx.*', takes a directory that can be written"),
    "catalogue and position": (
        at(sources="a.csv"),
        "sources: got a catalogue besides ra and dec, takes one or the other",
    ),
    "catalogue and name": ({"sources": "a.csv", "name": "x"}, "name: got 'x' besides a catalogue, which has a column"),
    "catalogue and motion": ({"sources": "a.csv", "pmra_masyr": 5}, "pmra_masyr: got 5 besides a catalogue"),
    "two catalogues": ({"sources": ["a.csv", "b.csv"]}, "sources: got ['a.csv', 'b.csv'], takes text or null"),
    "catalogue on the web": ({"sources": "https://x/y.csv"}, "sources: got 'https://x/y.csv', takes a CSV catalogue"),
    "no catalogue": ({"sources": "none.csv"}, "sources: got 'none.csv', .* can be read (No such file or directory)"),
    "no neighbours": (
        at(photometry={"neighbours": {"file": "none.csv"}}),
        "photometry.neighbours.file: got 'none.csv', takes a CSV catalogue that can be read",
    ),
    "catalogue that is a directory": ({"sources": "."}, "can be read (Is a directory)"),
    "empty catalogue": (table(""), "c.csv has no column ra; it has no header; columns are separated by commas"),
    "catalogue of a header": (table("id,ra,dec\n"), "takes a catalogue with at least one source"),
    "catalogue of semicolons": (table("id;ra;dec\n1;2;3\n"), "it has id;ra;dec; columns are separated by commas"),
    "catalogue of tabs": (
        table("id\tra\tdec\n"),
        "has no column ra; it has id ra dec; columns are separated by commas",
    ),
    "catalogue without a header": (table("213.9,11.5\n"), "c.csv has no column ra; it has 213.9, 11.5; columns are"),
    "catalogue in galactic degrees": (table("id,l,b\n1,2,3\n"), "c.csv has no column ra; it has id, l, b; columns are"),
    "decimal comma in a catalogue": (
        table("id,ra,dec\n1,2,5,3,5\n"),
        "line 2: has 5 cells, the header 3; decimals have a point, and text with a comma stands in quotation marks",
    ),
    "NaN in a catalogue": (table("id,ra,dec\n1,nan,3\n"), "c.csv line 2: ra: got 'nan', takes a number of degrees"),
    "masked in a catalogue": (table("id,ra,dec\n1,2,--\n"), "c.csv line 2: dec: got '--', takes a number of degrees"),
    "ra beyond the circle in a catalogue": (table("id,ra,dec\n1,361,3\n"), "line 2: ra: got 361, takes degrees from 0"),
    "word for a motion": (table("ra,dec,pmra\n1,2,fast\n"), "line 2: pmra: got 'fast', takes a number at least"),
    "date for an epoch": (
        table("ra,dec,epoch\n1,2,57388\n"),
        "line 2: epoch: got '57388', takes a number at least 1800 and at most 2200",
    ),
    "epoch with a letter": (table("ra,dec,epoch\n1,2,J2016.0\n"), "line 2: epoch: got 'J2016.0', takes a number at"),
    "ids that are one directory": (table("id,ra,dec\na/b,2,3\na_b,2,3\n"), "line 3: id 'a_b' is there twice"),
    "id of dots": (table("id,ra,dec\n..,2,3\n"), "line 2: name: got '..', takes 1 to 100 characters"),
    "long id": (table(f"id,ra,dec\n{'x' * 9000},2,3\n"), "line 2: name: got 'xxx.*', takes 1 to 100 characters"),
    "catalogue of another encoding": (
        table("id,name,ra,dec\n1,étoile,2,3\n".encode("latin-1")),
        "takes a CSV catalogue that can be read (it is not text in UTF-8)",
    ),
    "catalogue that is a picture": (
        table(b"\x89PNG\r\n\xff"),
        "takes a CSV catalogue that can be read (it is not text in",
    ),
    "catalogue of one long cell": (
        table("id,ra,dec\n" + "x" * 200_000),
        "that can be read (field larger than field limit",
    ),
    "id twice": (table("id,ra,dec\n1,2,3\n1,4,5\n"), "line 3: id '1' is there twice; each id once, please"),
    "id of another file": (table("id,ra,dec\nlogs,2,3\n"), "id 'logs' is a file of the whole catalogue; rename it"),
    "swapped in a catalogue": (table("id,ra,dec\n1,2,195\n"), "line 2: dec: got 195, .* (are ra and dec swapped?)"),
    "short line": (table("id,ra,dec\n1,2\n"), "line 2: dec: got '', takes a number of degrees"),
}


def holds(text, message):
    """Whether the parts of a message, with anything in place of ``.*``, are in the text in this order."""
    place = 0
    for part in message.split(".*"):
        place = text.find(part.strip(), place)
        if place < 0:
            return False
    return True


@pytest.mark.parametrize(("given", "message"), OPTIONS.values(), ids=OPTIONS)
def test_a_wrong_option_is_one_line(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    given = dict(given)
    content = given.pop("content", "")
    (tmp_path / "c.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError) as error:
        options = config.complete(given)
        transfer.TransferSettings.from_config(options)
        plots.refuse_unknown_colour_maps(options, config.defaults())
        read_sources.neighbours_of(read_sources.main(options), options)
    text = str(error.value)
    assert holds(text, message), text
    assert text.isprintable()
    assert len(text) < 600


# --- through Snakemake -------------------------------------------------------------------------


def as_a_plain_user():
    """In the child process: root obeys permissions too."""
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


def make_file(directory):
    (directory / "file").touch()


def close(name):
    def prepare(directory):
        (directory / name).mkdir(parents=True, exist_ok=True)
        (directory / name).chmod(0o555)

    return prepare


def hide(name):
    def prepare(directory):
        (directory / name).touch(mode=0o000)

    return prepare


OFF = ["archive={url: 'http://127.0.0.1:9', retries: 0}"]
ONCE = ["archive={url: '%s', retries: 0}"]
OLD = "import snakemake.common as c; c.__version__ = '9.1.0'; from snakemake.cli import main; main()"
RUNS = {
    "no source": (
        ["-n"],
        {"config": ["ra=null", "dec=null", "name=null"]},
        "no source: give a position, as in --config",
    ),
    "unknown option": (["-n"], {"config": ["bandz=D1"]}, "bandz: no such option; did you mean bands?"),
    "brackets left open": (["-n"], {"config": ["plot={dpi: 3"]}, "plot: got '{dpi: 3', takes a section of options"),
    "catalogue of somebody else": (
        ["-n"],
        {"config": ["ra=null", "dec=null", "name=null", "sources=secret.csv"], "prepare": hide("secret.csv")},
        "sources: got 'secret.csv', takes a CSV catalogue that can be read (Permission denied)",
    ),
    "stage with a typo": (["-n", "qurey"], {}, "No rule to produce qurey"),
    "no cores": (["query", "--cores=0"], {}, "cores: got 0, with which no job ever begins, takes at least 1"),
    "product of no source": (
        ["-n", "demo/other/results/lightcurve.csv"],
        {"config": ["ra=null", "dec=null", "name=null"]},
        "other: not a source of this run, which has none; give it its position and name, or add it",
    ),
    "another source's product": (
        ["-n", "demo/other/results/lightcurve.csv"],
        {},
        "other: not a source of this run, which has cloverleaf; give it its position and name, or add it",
    ),
    "calibration that is a file": (
        ["-n"],
        {"config": ["download={mode: slim}", "calibration={directory: file}"], "prepare": make_file},
        "calibration.directory: got 'file', takes a directory that can be written",
    ),
    "cache that is a file": (
        ["-n"],
        {"config": ["archive={service: obscore, cache: file}"], "prepare": make_file},
        "archive.cache: got 'file', takes a directory that can be written",
    ),
    "working directory of somebody else": (["query"], {"prepare": close(".")}, "outdir: got 'demo', takes a directory"),
    "source of somebody else": (
        ["query"],
        {"prepare": close("demo/cloverleaf")},
        "demo/cloverleaf: cannot be written (Permission denied)",
    ),
    "port closed": (["query"], {"config": OFF}, f"{CLOSED}/TAP: no answer: Connection refused; is the network up"),
    "wrong proxy": (
        ["query"],
        {"config": ONCE, "environment": {"http_proxy": CLOSED, "no_proxy": "", "NO_PROXY": ""}},
        "/TAP: no answer of the proxy: Connection refused; see http_proxy, https_proxy and no_proxy",
    ),
    "old Snakemake": (["-n"], {"before": [sys.executable, "-c", OLD]}, "Expecting Snakemake version 9.17 or higher"),
    "wrong working directory": (["-n"], {"snakefile": False}, "No Snakefile found, tried Snakefile"),
}


@pytest.mark.parametrize(("arguments", "how", "message"), RUNS.values(), ids=RUNS)
def test_a_wrong_run_is_one_line(tmp_path, demo_archive, arguments, how, message):
    workflow = Workflow(tmp_path, demo_archive.url)
    given = [option % demo_archive.url if "%s" in option else option for option in how.get("config", ())]
    command = workflow.command(*arguments, config=given)
    if not how.get("snakefile", True):
        command = [*command[:5], "-n"]
    before = how.get("before", [])
    command = [*before, *(command[3:] if "-c" in before and before[0] == sys.executable else command)]
    how.get("prepare", lambda directory: None)(tmp_path)
    finished = subprocess.run(
        command,
        cwd=tmp_path,
        env={**workflow.environment(), **how.get("environment", {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=as_a_plain_user,
    )
    assert finished.returncode != 0, finished.stdout
    assert any(holds(line, message) for line in finished.stdout.splitlines()), finished.stdout
    assert "Traceback (most recent call last)" not in finished.stdout
    os.chmod(tmp_path, 0o755)


def test_an_expired_answer_stands_when_the_archive_is_away(workflow):
    workflow.run("query", config=["bands=D1"])
    workflow.archive_url = CLOSED
    printed = workflow.run(
        "query", config=["bands=D1", f"archive={{url: '{CLOSED}', retries: 0}}", "query={max_age_days: 0}"]
    )
    said = next(line for line in printed.splitlines() if "could not be asked" in line)
    assert holds(said, "cloverleaf: the archive could not be asked .* is the network up, .* stands")
    assert "Traceback" not in printed


def test_a_spoilt_observation_table_says_what_to_do(workflow):
    workflow.run("query", config=["bands=D1"])
    found = workflow.directory / "demo/cloverleaf/records/observations.csv"
    found.write_text("nonsense\n1\n", encoding="utf-8")
    printed = workflow.run("--dry-run", "download", config=["bands=D1"], status=1)
    assert "observations.csv: not an observation table" in printed
    assert "remove it to ask again" in printed
