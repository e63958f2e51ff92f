"""What comes from outside stays data: it names no file elsewhere, runs nothing, and is believed by rules.

Where the subject has tests of its own the attack is there: XML entities, huge answers, other hosts and redirections in
`test_archive` and `test_transfer`, damaged files in `test_mef_hostile`, pages in a browser in `test_report`.
"""

import ast
import gzip
import json
import os
import sys
import time
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from answers import answering
from conftest import REPOSITORY
from records import SOURCE, real_star
from spxflow import archive, catalogue, config, files, observations, plot_points, report, sources, transfer
from spxflow.archive.calibration import latest_file
from spxflow.archive.search import find
from spxflow.sources import Source
from spxflow.transfer.calibration import CalibrationCache
from spxflow.transfer.client import HttpClient
from spxflow.transfer.faults import TransferFault

sys.path.insert(0, str(REPOSITORY))
from scripts import read_sources

STEM = "level2_2025W25_1B_0062_1D3_spx_l2b-v20-2025-253"
ADDRESS = "/ibe/data/spherex/qr2/level2/2025W25_1B/l2b-v20-2025-253/3/"
OBSERVATION = observations.Observation(
    STEM,
    "2025W25_1B_0062_1",
    "D3",
    60842.1,
    60842.2,
    1.6,
    2.4,
    "http://127.0.0.1:9" + ADDRESS + STEM + ".fits",
    "x",
    "x",
)
OUTSIDE = ["../../../etc/passwd", "/etc/passwd", "..", STEM + "/../../x", "\0", "a\nb"]
QUICK = transfer.TransferSettings(retries=0, retry_wait_s=0.01, timeout_s=5.0, max_file_mb=1.0)


# --- names become paths


@pytest.mark.parametrize("stem", OUTSIDE)
def test_a_table_of_exposures_names_no_file_elsewhere(tmp_path, stem):
    observations.write_observations(tmp_path / "t.csv", [OBSERVATION, replace(OBSERVATION, stem=stem)])
    with pytest.raises(ValueError, match="not an observation table"):
        observations.read_observations(tmp_path / "t.csv")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_source_is_a_directory_of_its_own(tmp_path, name):
    try:
        key = sources.directory_key(name)
    except sources.ConfigError:
        return
    assert (tmp_path / key).resolve().parent == tmp_path


@pytest.mark.parametrize("name", ["../cal-epsf-v1", "cal-epsf-v1/..", "cal-epsf-v1-2026-191\0", "..", "."])
def test_a_listing_of_calibration_names_no_file_elsewhere(name):
    with pytest.raises(archive.ArchiveError, match="lists no epsf"):
        latest_file(lambda url: json.dumps({"name": name + "/"}).encode(), "http://x", "QR3", "epsf", 1)


# --- answers that grow


def test_a_compressed_answer_that_grows_is_given_up(tmp_path):
    packed = gzip.compress(b"SIMPLE  =" + bytes(200_000_000), 6)
    with answering(lambda path: (200, {"Content-Type": "image/fits"}, packed)) as url:
        settings = replace(QUICK, archive_url=url)
        moved = replace(OBSERVATION, url=OBSERVATION.url.replace("http://127.0.0.1:9", url))
        record = transfer.fetch(moved, Source("x", "x", 10.0, 20.0), tmp_path / "x.fits", settings)
    assert record.status == "invalid_file"
    assert "larger than download.max_file_mb" in record.reason
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("service", ["tap", "sia", "obscore"])
def test_a_packed_answer_to_a_query_is_measured_unpacked(service, tmp_path):
    packed = gzip.compress(b"<?xml version='1.0'?><VOTABLE>" + b" " * 20_000_000, 6)
    headers = {"Content-Type": "text/xml", "Content-Encoding": "gzip"}
    with answering(lambda path: (200, headers, packed)) as url:
        settings = archive.ArchiveSettings(url=url, service=service, retries=0, max_answer_mb=2.0, cache=tmp_path)
        try:
            found = find([Source("x", "x", 10.0, 20.0)], settings, archive.QuerySettings(), observations.BANDS)["x"]
        except archive.ArchiveError as error:
            found = error
    assert "archive.max_answer_mb" in str(found)


# --- other hosts and schemes


def test_calibration_follows_no_redirection_elsewhere(tmp_path):
    with answering(lambda path: (302, {"Location": "http://192.0.2.1/epsf.fits"}, b"")) as url:
        client = HttpClient(replace(QUICK, archive_url=url))
        with pytest.raises(TransferFault, match="another host"):
            client.read(f"{url}/ibe/dir/list/spherex/qr3/epsf", 1000)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://192.0.2.1/x", "gopher://x"])
def test_a_resolver_leads_to_the_web_only(target):
    with answering(lambda path: (302, {"Location": target}, b"")) as url:
        settings = archive.ArchiveSettings(sesame_url=url, retries=0)
        with pytest.raises(archive.ArchiveError, match="cannot be resolved"):
            archive.resolve_name("x", settings)


# --- data are not run


def calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def test_nothing_that_is_read_is_run():
    never = {
        "eval",
        "exec",
        "pickle.load",
        "pickle.loads",
        "marshal.loads",
        "os.system",
        "os.popen",
        "yaml.unsafe_load",
    }
    never |= {"yaml.full_load", "yaml.load_all", "yaml.full_load_all", "yaml.unsafe_load_all", "shelve.open"}
    for path in [*REPOSITORY.glob("workflow/spxflow/**/*.py"), *REPOSITORY.glob("scripts/*.py")]:
        for node, name in calls(path):
            assert name not in never, f"{path}:{node.lineno}"
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert given.get("shell", "False") == given.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
            if name == "yaml.load":
                loader = given.get("Loader") or ast.unparse(node.args[1])
                assert loader in ("yaml.BaseLoader", "yaml.SafeLoader"), f"{path}:{node.lineno}"


def test_options_with_python_in_them_are_not_run(tmp_path):
    (tmp_path / "mine.yaml").write_text(f"ra: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n", encoding="utf-8")
    with pytest.raises(config.yaml.YAMLError):
        config.positions_as_written({}, [tmp_path / "mine.yaml"])
    assert not (tmp_path / "made").exists()


# --- markup

MARKUP = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>\"'>{{data}}${x}"


class Elements(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.seen = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, *sorted(name for name, _ in attributes if name.startswith("on"))))


def test_a_name_adds_no_element_to_a_report(tmp_path):
    def page(name, reason):
        records = [{**one, "reason": reason, "status": "flagged"} for one in real_star()[:5]]
        made = {"configuration": {"name": name}}
        report.write_report(
            tmp_path / "r.html", {**SOURCE, "name": name}, records, {}, plot_points.PlotSettings(), made
        )
        return Elements((tmp_path / "r.html").read_text(encoding="utf-8")).seen

    assert page(MARKUP, MARKUP) == page("plain", "plain")


def test_a_name_adds_no_element_to_an_index(tmp_path):
    def page(name):
        entries = [{"name": name, "report": "a/r.html", "picture": None, "good": 1}]
        report.write_index(tmp_path / "i.html", name, entries)
        return Elements((tmp_path / "i.html").read_text(encoding="utf-8")).seen

    assert page(MARKUP) == page("plain")


def test_a_name_in_a_table_of_sources_stays_one_cell(tmp_path):
    source = Source("k", 'a",b\n#c', 10.0, 20.0)
    catalogue.write_catalogue([(asdict(source), [])], tmp_path / "c.parquet", tmp_path / "c.csv")
    sources.write_catalogue(tmp_path / "s.csv", [source])
    (line,) = [row for row in (tmp_path / "c.csv").read_text(encoding="utf-8").splitlines() if row.startswith("k,")]
    assert line.startswith('k,"a"",b')


# --- who may write, and who is believed


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_files_have_the_permissions_that_the_user_wants(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_json(tmp_path / "d" / "x.json", {})
        files.hold_lock(tmp_path / "d" / "lock").close()
        files.hold_lock(tmp_path / "d" / "other", waits=True).close()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "d").iterdir()} == {mode}
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_run_leaves_nothing_that_everybody_may_write(workflow):
    workflow.run("download", config=["bands=D1", f"archive={{url: '{workflow.archive_url}', service: obscore}}"])
    made = [path for path in workflow.directory.rglob("*") if not path.is_symlink()]
    assert any(path.name == "datalink.json" for path in made)
    assert [path for path in made if path.stat().st_mode & 0o002] == []


def another_users(monkeypatch):
    monkeypatch.setattr(files.os, "geteuid", lambda: os.getuid() + 1)


def test_a_cache_of_another_user_is_believed_where_not_everybody_may_write(tmp_path, monkeypatch):
    path = tmp_path / "cache.json"
    files.write_json(path, {"a": 1})
    path.chmod(0o666)
    assert files.read_cache(path) == {"a": 1}
    another_users(monkeypatch)
    with pytest.raises(PermissionError, match="another user's"):
        files.read_cache(path)
    path.chmod(0o644)
    assert files.read_cache(path) == {"a": 1}
    tmp_path.chmod(0o777)
    with pytest.raises(PermissionError, match="another user's"):
        files.read_cache(path)


def test_a_position_that_anybody_may_have_written_is_asked_for_again(tmp_path, monkeypatch):
    kept = tmp_path / "M_31" / "records" / "name.json"
    files.write_json(kept, asdict(archive.names.ResolvedName("M 31", 1.0, 2.0)))
    options = config.complete(
        {"name": "M 31", "outdir": str(tmp_path), "archive": {"sesame_url": "http://127.0.0.1:9"}}
    )
    options["archive"]["retries"] = 0
    assert read_sources.main(options)["M_31"].ra_deg == 1.0
    kept.chmod(0o666)
    another_users(monkeypatch)
    with pytest.raises(sources.ConfigError, match="cannot be resolved"):
        read_sources.main(options)


@pytest.mark.parametrize("spoilt", ["not JSON", "[]", '{"name": "M 31"}', '{"name": "M 31", "x": 1}'])
def test_a_spoilt_position_is_asked_for_again(tmp_path, spoilt):
    files.write_atomically(tmp_path / "M_31" / "records" / "name.json", spoilt)
    options = config.complete(
        {"name": "M 31", "outdir": str(tmp_path), "archive": {"sesame_url": "http://127.0.0.1:9"}}
    )
    options["archive"]["retries"] = 0
    with pytest.raises(sources.ConfigError, match="cannot be resolved"):
        read_sources.main(options)


def test_a_kept_calibration_names_no_file_elsewhere(tmp_path):
    directory = tmp_path / "calibration" / "qr3" / "epsf" / "D1"
    kept = {"release": "QR3", "family": "epsf", "detector": 1, "token": "cal-epsf-v1"}
    content = {**kept, "sha256": "0", "size": directory.stat().st_size if directory.exists() else 4096}
    content["checked"] = time.time()
    settings = transfer.CalibrationSettings(Path(tmp_path / "calibration"))
    for url in ("http://x/../../../../secret.fits", "http://x/..", "http://x/"):
        files.write_json(directory / "latest.json", {**content, "url": url})
        cache = CalibrationCache(
            settings, "http://127.0.0.1:9", HttpClient(replace(QUICK, archive_url="http://127.0.0.1:9"))
        )
        with pytest.raises(transfer.calibration.CalibrationUnavailableError):
            cache.psf_file("QR3", 1)
