"""The HTML report: complete in itself, safe against what its texts contain, and alive in a browser."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import asdict
from html.parser import HTMLParser

import debian
import numpy as np
import pytest
from records import SOURCE, missing, real_star, simulate
from spxflow import config, report, spectrum, variability
from spxflow.plot_points import PlotSettings
from spxflow.plots_qa import exposure_name
from spxflow.report import ReportSettings, write_index, write_report
from spxflow.stamps import Stamp, encode

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">{{data}}&amp;"
MADE = {"configuration": {"photometry": {"primary": "psf"}}, "versions": {"numpy": np.__version__}}

# Listens for anything that goes wrong from the first line on.
LISTENER = """<script>
window.problems = [];
for (const kind of ["error", "securitypolicyviolation", "unhandledrejection"])
  window.addEventListener(kind, (event) => {
    problems.push(`${kind}: ${event.message ?? event.violatedDirective ?? event.reason}`);
  }, true);
for (const kind of ["error", "warn"]) console[kind] = (...words) => problems.push(words.join(" "));
</script>"""


def stamp(size=15):
    rng = np.random.default_rng(0)
    image = rng.normal(0.0, 0.01, (size, size))
    model = np.zeros((size, size))
    model[7, 7] = 1.0
    masked = np.zeros((size, size), dtype=bool)
    masked[2, 3] = True
    image[0] = np.nan
    return Stamp(image + model, model, masked | np.isnan(image), 7.2, 6.9, 1.5)


def write(path, records, source=SOURCE, with_stamps=True, **options):
    stamps = {exposure_name(one): encode(stamp()) for one in records} if with_stamps else {}
    write_report(path, source, records, stamps, PlotSettings(**options), MADE)
    return path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a screen."""
    found = [program for program in BROWSERS if shutil.which(program)]
    if not found:
        try:
            debian.have(BROWSERS[:1], BROWSERS[:1])
        except debian.UnavailableError as error:
            pytest.skip(f"no browser: {error}")
    return (found or BROWSERS)[0]


@pytest.fixture
def browse(browser, tmp_path):
    """Function that opens a page, runs a script in it once it has drawn itself, and returns what that returns."""

    def browsed(page, script, fragment="", width=1400):
        return _browse(browser, tmp_path / "browsed.html", page, script, fragment, width)

    return browsed


def _browse(browser, path, page, script, fragment, width):
    driver = f"""<script>
    window.addEventListener("load", () => setTimeout(async () => {{
      const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
      const result = document.createElement("pre");
      result.id = "result";
      result.textContent = JSON.stringify(await (async () => {{ {script} }})());
      document.body.append(result);
    }}, 500));</script>"""
    path.write_text(page.replace("<title>", LISTENER + "<title>", 1).replace("</body>", driver + "</body>"), "utf-8")
    options = [
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},1200",
        "--virtual-time-budget=20000",
        "--dump-dom",
    ]
    done = subprocess.run(
        [browser, *options, f"file://{path}{fragment}"], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


# --- the file ----------------------------------------------------------------------------------


class Links(HTMLParser):
    """Addresses that a page refers to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href", "action", "data")]


def test_a_page_refers_to_nothing_outside_itself(tmp_path):
    page = write(tmp_path / "report.html", real_star())
    links = Links()
    links.feed(page)
    assert links.found == []
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_three_hundred_exposures_with_stamps_stay_small(tmp_path):
    exposures = simulate(0, exposures=25)
    assert len(exposures) == 300
    write(tmp_path / "report.html", exposures)
    assert (tmp_path / "report.html").stat().st_size < 7_000_000


def test_twenty_thousand_exposures_stay_small(tmp_path):
    exposures = (simulate(0, exposures=100) * 17)[:20_000]
    write(tmp_path / "report.html", exposures, with_stamps=False)
    assert (tmp_path / "report.html").stat().st_size < 15_000_000


def test_stamps_are_limited_and_spread_in_time():
    exposures = simulate(0)
    for one in exposures[::2]:
        one["solid_angle_arcsec2"] = 37.8
    chosen = report.exposures_with_stamps(exposures, ReportSettings(max_stamps=10))
    assert len(chosen) == 10
    assert all(one["solid_angle_arcsec2"] for one in chosen)
    assert {one["mjd"] > 60900.0 for one in chosen} == {True, False}
    assert len(report.exposures_with_stamps(exposures, ReportSettings())) == len(exposures[::2])


def test_the_page_has_the_data_of_every_exposure(tmp_path):
    star = real_star()
    data = data_of(write(tmp_path / "report.html", star))
    assert len(data["rows"]) == len(star)
    flux = [row[data["columns"].index("flux_ujy")] for row in data["rows"]]
    assert sorted(flux) == pytest.approx(sorted(one["flux_ujy"] for one in star), rel=1e-11)
    assert data["kinds"].count("good") == sum(one["is_good"] for one in star)


def test_failures_are_listed_with_their_reasons(tmp_path):
    page = write(tmp_path / "report.html", [*real_star(), missing(), missing(), missing(reason="timed out <40 s>")])
    assert "<td>download_failed</td><td>HTTP 404: not found</td><td>2</td>" in page
    assert "timed out &lt;40 s&gt;" in page
    assert "every exposure was measured" in write(tmp_path / "b.html", simulate(0))


def test_how_it_was_made_and_variability_are_told(tmp_path):
    exposures = simulate(0)
    result = variability.variability(exposures, variability.VariabilitySettings(), spectrum.SpectrumSettings())
    channels = spectrum.combine(exposures, spectrum.SpectrumSettings())
    write_report(tmp_path / "a.html", SOURCE, exposures, {}, PlotSettings(), MADE, channels, result)
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"<td>{result['p_value']:.3g}</td>" in page
    assert "primary: psf" in page
    assert len(data_of(page)["spectrum"]["flux_ujy"]) == sum(row["n_used"] > 0 for row in channels)


def test_plot_options_are_followed(tmp_path):
    usual = data_of(write(tmp_path / "a.html", real_star()))
    other = data_of(
        write(
            tmp_path / "b.html",
            real_star(),
            date_cmap="Greys",
            wavelength_scale="linear",
            break_gaps_days=0,
            ylim_percentiles=(25.0, 75.0),
            magnitude=True,
        )
    )
    assert usual["scales"]["date"] != other["scales"]["date"]
    assert (usual["wavelength_scale"], other["wavelength_scale"]) == ("log", "linear")
    assert (len(usual["axes"]["gaps"]), len(other["axes"]["gaps"])) == (1, 0)
    assert np.ptp(other["axes"]["flux"]) < np.ptp(usual["axes"]["flux"])
    assert (usual["magnitude"], other["magnitude"]) == (False, True)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert write(tmp_path / "a.html", real_star()) == write(tmp_path / "b.html", real_star())


@pytest.mark.parametrize("text", [HOSTILE, "\u2028\u2029", "]]>", "<!--<script>", "\\"])
def test_json_inside_a_script_element_stays_json(text):
    embedded = report.embedded_json({"name": text})
    assert json.loads(embedded) == {"name": text}
    assert not set("<>&\u2028\u2029") & set(embedded)


# --- in a browser ------------------------------------------------------------------------------

CLICK = """
  const points = [...document.querySelectorAll("#%s .scatterlayer .points path")].slice(0, 20);
  const point = points[Math.floor(points.length / 2)].getBoundingClientRect();
  const middle = { clientX: point.x + point.width / 2, clientY: point.y + point.height / 2 };
  const layer = document.querySelector("#%s .nsewdrag");
  for (const kind of ["mousemove", "mousedown", "mouseup"]) {
    layer.dispatchEvent(new MouseEvent(kind, { bubbles: true, view: window, ...middle }));
    await wait(300);
  }
  return { problems, selected: document.querySelector("#details h2")?.textContent,
           canvases: document.querySelectorAll("#details canvas").length,
           text: document.querySelector("#details").textContent, plots: document.querySelectorAll(".main-svg").length };
"""


@pytest.mark.parametrize("plot", ["spectrum", "lightcurve"])
def test_a_clicked_point_shows_its_cutout_and_record(browse, tmp_path, plot):
    star = real_star()
    page = write(tmp_path / "report.html", star)
    seen = browse(page, CLICK % (plot, plot))
    assert seen["problems"] == []
    assert seen["plots"] >= 2
    clicked = next(one for one in star if exposure_name(one) == seen["selected"])
    assert seen["canvases"] == 3
    assert "residual" in seen["text"]
    assert str(clicked["flags"]) in seen["text"]
    assert float(re.search(r"flux_ujy(-?[\d.]+) uJy", seen["text"])[1]) == pytest.approx(clicked["flux_ujy"], rel=1e-5)


def test_hostile_texts_stay_texts(browse, tmp_path):
    star = [{**one, "reason": HOSTILE, "status": "flagged"} for one in real_star()]
    star[0]["obs_id"] = HOSTILE
    page = write(tmp_path / "report.html", star, source={**SOURCE, "name": HOSTILE})
    seen = browse(
        page,
        "document.querySelector('tr[data-row]').click(); await wait(300);"
        "return { problems, title: document.title, heading: document.querySelector('h1').textContent,"
        " images: document.querySelectorAll('img[src=x]').length, text: document.body.textContent };",
    )
    assert seen["problems"] == []
    assert seen["title"] == seen["heading"] == HOSTILE
    assert seen["images"] == 0
    assert seen["text"].count(HOSTILE) >= 2


def test_arrow_keys_step_and_links_lead_to_an_exposure(browse, tmp_path):
    exposures = sorted(simulate(0), key=lambda one: (one["mjd"], one["band"]))
    page = write(tmp_path / "report.html", exposures)
    seen = browse(
        page,
        "const first = document.querySelector('#details h2').textContent;"
        "document.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' })); await wait(100);"
        "return { problems, first, second: document.querySelector('#details h2').textContent, hash: location.hash };",
        fragment=f"#{exposure_name(exposures[7])}",
    )
    assert seen["problems"] == []
    assert (seen["first"], seen["second"]) == (exposure_name(exposures[7]), exposure_name(exposures[8]))
    assert seen["hash"] == f"#{exposure_name(exposures[8])}"


def test_keys_do_what_a_mouse_does_and_leave_those_of_the_browser_alone(browse, tmp_path):
    exposures = [*simulate(0), missing()]
    seen = browse(
        write(tmp_path / "report.html", exposures),
        "const press = (where, key, more) =>"
        " where.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true, ...more }));"
        "const selected = () => document.querySelector('#details h2')?.textContent ?? null;"
        "press(document, 'ArrowRight', { altKey: true }); await wait(100); const back = selected();"
        "const row = document.querySelector('tr[data-row]'); press(row, 'Enter'); await wait(100);"
        "return { problems, back, chosen: selected(), focusable: row.tabIndex, text: document.body.textContent };",
    )
    assert seen["problems"] == []
    assert (seen["back"], seen["chosen"], seen["focusable"]) == (None, exposure_name(exposures[-1]), 0)
    assert "HTTP 404" in seen["text"]


MAGNITUDES = """
  const spectrum = document.getElementById("spectrum");
  const look = () => ({
    title: spectrum.layout.yaxis.title.text,
    range: spectrum.layout.yaxis.range,
    good: spectrum.data[0].customdata.map((row, index) => [data.names[row], spectrum.data[0].y[index]]),
    outside: document.getElementById("outside").textContent,
  });
  const before = look();
  document.getElementById("magnitudes").click();
  await wait(500);
  const notes = document.getElementById("lightcurve").layout.annotations.map((one) => one.text);
  return { problems, before, after: look(), notes };
"""


def test_fluxes_become_magnitudes_and_gaps_in_time_are_told(browse, tmp_path):
    star = real_star()
    seen = browse(write(tmp_path / "report.html", star), MAGNITUDES)
    assert seen["problems"] == []
    by_name = {exposure_name(one): one for one in star}
    for look, column, title in (("before", "flux_ujy", "flux density (µJy)"), ("after", "mag_ab", "AB magnitude")):
        assert seen[look]["title"] == title
        assert len(seen[look]["good"]) == sum(one["is_good"] for one in star)
        assert all(value == pytest.approx(by_name[name][column]) for name, value in seen[look]["good"])
        low, high = sorted(seen[look]["range"])
        limits = [one["upper_limit_ujy"] for one in star if one["is_upper_limit"]]
        fluxes = [*limits, *(one["flux_ujy"] for one in star if not one["is_upper_limit"])]
        values = fluxes if look == "before" else [23.9 - 2.5 * np.log10(flux) for flux in fluxes if flux > 0]
        beyond = sum(not low <= value <= high for value in values)
        assert seen[look]["outside"].startswith(f"{beyond} of {len(star)} points are outside")
    assert seen["before"]["range"][0] < seen["before"]["range"][1]
    assert seen["after"]["range"][0] > seen["after"]["range"][1], "bright is up"
    assert [re.fullmatch(r"1\d\d days left out", note) is not None for note in seen["notes"]] == [True]


@pytest.mark.parametrize("width", [500, 1400])
def test_nothing_is_wider_than_the_window(browse, tmp_path, width):
    star = [*real_star(), missing(reason="a_very_long_word_without_any_space" * 20)]
    seen = browse(
        write(tmp_path / "report.html", star),
        "document.querySelectorAll('details').forEach((one) => { one.open = true; }); await wait(500);"
        "return { problems, page: document.documentElement.scrollWidth, window: innerWidth };",
        fragment=f"#{exposure_name(star[3])}",
        width=width,
    )
    assert seen["problems"] == []
    assert seen["page"] <= seen["window"] == width


@pytest.mark.parametrize(("records", "said"), [([], "was found"), ([missing()], "could be measured")])
def test_without_a_measurement_the_page_says_so(browse, tmp_path, records, said):
    seen = browse(
        write(tmp_path / "report.html", records),
        "return { problems, text: document.body.innerText, plots: document.querySelectorAll('.plot').length };",
    )
    assert (seen["problems"], seen["plots"]) == ([], 0)
    assert f"no exposure of this source {said}" in seen["text"]
    assert "Click a point" not in seen["text"]
    assert "every exposure was measured" not in seen["text"]


def test_an_exposure_that_failed_has_its_details_on_a_page_without_plots(browse, tmp_path):
    failed = missing()
    seen = browse(
        write(tmp_path / "report.html", [failed]),
        "document.querySelector('tr[data-row]').click(); await wait(300);"
        "return { problems, selected: document.querySelector('#details h2')?.textContent };",
        fragment="#100%",
    )
    assert (seen["problems"], seen["selected"]) == ([], exposure_name(failed))


@pytest.mark.parametrize("records", [simulate(0)[:1], simulate(0, exposures=180)], ids=["one", "many"])
def test_unusual_numbers_of_exposures_are_pages_too(browse, tmp_path, records):
    seen = browse(write(tmp_path / "a.html", records), "await wait(1500); return { problems };")
    assert seen["problems"] == []


# --- catalogues --------------------------------------------------------------------------------

ENTRIES = [
    {"name": "b", "report": "b/results/report.html", "picture": "b/results/combined_plot.png", "good": 12, "S/N": 3.5},
    {"name": "a <&>", "report": None, "picture": None, "good": 101, "S/N": None},
    {"name": "c", "report": "javascript:alert(1)", "picture": "//evil.example/x.png", "good": 7, "S/N": 20.25},
]


def test_an_index_links_to_every_report_and_nowhere_else(tmp_path):
    write_index(tmp_path / "index.html", "a <catalogue>", ENTRIES)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.found == ["b/results/report.html", "b/results/combined_plot.png", "javascript%3Aalert%281%29"]
    assert "a &lt;&amp;&gt;" in page
    assert "<h1>a &lt;catalogue&gt;</h1>" in page
    write_index(tmp_path / "empty.html", "nothing", [])
    assert "0 sources" in (tmp_path / "empty.html").read_text(encoding="utf-8")


def test_an_index_sorts_by_its_numbers(browse, tmp_path):
    write_index(tmp_path / "index.html", "catalogue", ENTRIES)
    seen = browse(
        (tmp_path / "index.html").read_text(encoding="utf-8").replace('src="b/', 'data-src="b/'),
        "const heads = [...document.querySelectorAll('th[data-sort]')];"
        "const names = () => [...document.querySelectorAll('tbody tr')].map((line) => line.cells[0].textContent);"
        "const click = (index) => { heads[index].click(); return names(); };"
        "return { problems, byGood: click(1), backwards: click(1), bySnr: click(2), byName: click(0) };",
    )
    assert seen["problems"] == []
    assert seen["byGood"] == ["c", "b", "a <&>"]
    assert seen["backwards"] == ["a <&>", "b", "c"]
    assert seen["bySnr"] == ["b", "c", "a <&>"]
    assert seen["byName"] == ["a <&>", "b", "c"]


def test_an_index_fits_a_narrow_window_and_sorts_by_keys(browse, tmp_path):
    entries = [{**ENTRIES[0], "name": f"a-longer-name-{number}", "n_upper_limits": number} for number in range(5)]
    write_index(tmp_path / "index.html", "catalogue", entries)
    seen = browse(
        (tmp_path / "index.html").read_text(encoding="utf-8").replace('src="b/', 'data-src="b/'),
        "const heading = document.querySelectorAll('th[data-sort]')[3];"
        "for (const _ of 'ab') heading.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter' }));"
        "return { problems, page: document.documentElement.scrollWidth, window: innerWidth,"
        " first: document.querySelector('tbody tr').cells[0].textContent, order: heading.ariaSort };",
        width=500,
    )
    assert seen["problems"] == []
    assert seen["page"] <= seen["window"] == 500
    assert (seen["first"], seen["order"]) == ("a-longer-name-4", "descending")


def test_the_defaults_are_those_of_the_configuration():
    assert config.defaults()["report"] == asdict(ReportSettings())
