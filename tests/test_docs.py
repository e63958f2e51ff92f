"""The documentation builds without a warning, needs no network, and its reference is complete."""

import ast
import dataclasses
import importlib.util
import re
import subprocess
import sys
from html import unescape

import pytest
import yaml
from conftest import REPOSITORY
from spxflow import catalogue, config, spectrum, tables, variability
from spxflow.mef.flags import FLAG_MEANINGS, KNOWN_FLAGS
from spxflow.transfer.record import TransferRecord

DOCS = REPOSITORY / "docs"
NEEDED = ("mkdocs", "material", "latex2mathml")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no test of the built documentation: {', '.join(missing)} not installed (group docs)")
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return directory


def codes(page):
    """Everything that a page has in code type."""
    return {unescape(text) for text in re.findall(r"<code[^>]*>([^<]*)</code>", page.read_text(encoding="utf-8"))}


def test_every_option_is_in_the_reference(site):
    assert {name for name, _ in config.options()} <= codes(site / "reference" / "options.html")


def test_every_column_is_in_the_reference(site):
    columns = (*tables.COLUMNS, *spectrum.COLUMNS, *variability.COLUMNS, *catalogue.SUMMARY_COLUMNS)
    page = codes(site / "reference" / "columns.html")
    assert {column.name for column in columns} <= page
    assert {field.name for field in dataclasses.fields(TransferRecord)} <= set(", ".join(page).split(", "))


def test_every_status_and_flag_is_in_the_reference(site):
    assert {*tables.STATUSES, *catalogue.STATUSES, *KNOWN_FLAGS} <= codes(site / "reference" / "status.html")
    assert KNOWN_FLAGS.keys() >= FLAG_MEANINGS.keys()


def test_pages_fetch_nothing(site):
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        assert not [tag for tag in tags if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", tag)], page
        assert "<math" not in page.read_text(encoding="utf-8") or "merror" not in page.read_text(encoding="utf-8")
    assert "<math" in (site / "method.html").read_text(encoding="utf-8")


def test_every_room_of_the_package_is_in_the_architecture():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.stem for path in (REPOSITORY / "workflow" / "spxflow").iterdir() if not path.name.startswith("_")}
    assert not {room for room in rooms if f"`{room}`" not in text and f"`{room}/`" not in text}


def imported_rooms(path):
    """Rooms that a module imports from, also within functions, but not for the type checker alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types and (node.module or "").startswith("spxflow"):
            below = node.module.split(".")[1:]
            yield from below[:1] or [alias.name for alias in node.names]


def test_a_room_imports_only_from_those_above_it():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8").split("## Rooms of the package")[1].split("## ")[0]
    rows = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    level = {name.strip("/"): number for number, row in enumerate(rows) for name in re.findall(r"`([a-z_/]+)`", row)}
    package = REPOSITORY / "workflow" / "spxflow"
    wrong = [
        f"{path.relative_to(package)} imports {room}"
        for path in package.rglob("*.py")
        if (own := level.get(path.relative_to(package).parts[0].removesuffix(".py"))) is not None
        for room in imported_rooms(path)
        if level.get(room, -1) > own
    ]
    assert not wrong


def test_pictures_are_small():
    assert all(path.stat().st_size < 200_000 for path in (DOCS / "images").iterdir())


def leaves(options):
    """Names of the options in nested sections."""
    for name, value in options.items():
        yield from leaves(value) if isinstance(value, dict) else [name]


def test_every_option_of_spxquery_has_an_answer():
    options = yaml.safe_load((REPOSITORY / "tests" / "data" / "spxquery_options.yaml").read_text(encoding="utf-8"))
    text = (DOCS / "howto" / "from-spxquery.md").read_text(encoding="utf-8")
    assert not [name for name in leaves(options) if not re.search(rf"`(query\.)?(source\.)?{name}`", text)]
    answers = {
        answer
        for line in text.splitlines()
        for answer in re.findall(r"`([a-z_]+\.[a-z_.]+)`", line[line.find("|", 1) :])
    }
    assert len(answers) > 20
    assert answers - {"local.yaml"} <= {name for name, _ in config.options()}
