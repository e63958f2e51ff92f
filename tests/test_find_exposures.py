"""When the archive is asked for the exposures of a source, and what stands when it cannot be."""

import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from spxflow import archive, config, files, observations
from spxflow.demo import scenario, server
from spxflow.sources import Source

sys.path.insert(0, str(REPOSITORY))
from scripts import fetch_source, find_exposures


@pytest.fixture
def options(demo_archive):
    """A configuration on the local archive, which is asked once."""
    complete = config.complete({"bands": ["D1"], "archive": {"url": demo_archive.url, "retries": 0}})
    return complete | {"query": complete["query"] | {"max_age_days": None}}


@pytest.fixture
def paths(tmp_path):
    return [str(tmp_path / name) for name in ("observations.csv", "query.json", "find.log")]


def source_at(position, key="here", dec_offset=0.0):
    return Source(key, key, position.ra_deg, position.dec_deg + dec_offset)


def silent(options):
    return options | {"archive": options["archive"] | {"url": "http://127.0.0.1:9"}}


def ask(source, options, paths, supersedes=""):
    questions = find_exposures.Questions({source.key: source}, {source.key}, options)
    find_exposures.main(questions, source.key, options, fetch_source.Manifests(None), supersedes, *paths)


def test_the_last_answer_stands_and_the_archive_is_asked_again_next_time(demo_scenario, options, paths, caplog):
    table, found, log = paths
    source = source_at(demo_scenario.target)
    ask(source, options, paths)
    listed = observations.read_observations(table)
    time = files.read_json(found)["query_time"]
    assert len(listed) == 18
    assert find_exposures.is_current(found, options, source)
    stored = ""
    for _ in range(3):
        for path in (table, found):  # as Snakemake does before it runs a job
            Path(path).unlink()
        ask(source, silent(options), paths, stored)
        assert observations.read_observations(table) == listed
        account = files.read_json(found)
        assert account["query_time"] == time
        assert len(account["messages"]) == 1
        assert "127.0.0.1:9/TAP: no answer: Connection refused" in caplog.text
        assert f"): the answer of {time} stands" in caplog.text
        assert "127.0.0.1:9" in Path(log).read_text(encoding="utf-8")
        assert not find_exposures.is_current(found, options, source)
        again = find_exposures.superseded_answer(found, None)
        assert again != stored
        stored = again
    ask(source, options, paths, stored)
    assert files.read_json(found)["messages"] == []
    assert find_exposures.superseded_answer(found, None) == stored


def test_the_last_answer_to_another_question_does_not_stand(demo_scenario, options, paths):
    source = source_at(demo_scenario.target)
    ask(source, options, paths)
    with pytest.raises(archive.ArchiveError):
        ask(source, silent(options | {"bands": ["D1", "D2"]}), paths)
    moved = source_at(demo_scenario.target, dec_offset=0.01)
    assert not find_exposures.is_current(paths[1], options, moved)
    with pytest.raises(archive.ArchiveError):
        ask(moved, silent(options), paths)


def test_a_catalogue_asks_a_dead_archive_once(demo_scenario, options):
    with server.running(demo_scenario, faults={"files": {"/TAP/*": "503"}}) as dead:
        options = options | {"archive": options["archive"] | {"url": dead.url}}
        sources = {f"s{n}": source_at(demo_scenario.target, f"s{n}", 0.001 * n) for n in range(20)}
        questions = find_exposures.Questions(sources, set(sources), options)
        asked = []
        for key in sources:
            with pytest.raises(archive.ArchiveError, match="503"):
                questions.answer(key)
            asked.append(len(dead.requests))
        assert asked == [asked[0]] * 20


def test_only_the_source_whose_answer_is_cut_off_fails(options):
    releases = scenario.load("releases")
    sources = {"here": source_at(releases.target), "far": source_at(releases.target, "far", 3.0)}
    with server.running(releases, limits=server.Limits(hard=10)) as limited:
        options = options | {"archive": options["archive"] | {"url": limited.url}}
        questions = find_exposures.Questions(sources, set(sources), options)
        with pytest.raises(archive.ArchiveError, match="cut off at 10 rows"):
            questions.answer("here")
        assert questions.answer("far").observations
