"""Options: one JSON schema gives types, ranges, defaults and meanings; this room applies it and explains what is wrong.

Values given on the command line (``--config key=value``) arrive as text when they are nested, so text is read as what
the schema asks for.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from spxflow import __version__
from spxflow.errors import ConfigError

if TYPE_CHECKING:
    from jsonschema import ValidationError

_PACKAGE = Path(__file__).resolve().parent
MOTION = ("pmra_masyr", "pmdec_masyr", "parallax_mas", "epoch_yr")
"""Options, and fields of a source, by which its position is known at other times."""
STATE = "state"
"""Section of ``{source}.yaml`` that is the record of a run."""

_NULLS = frozenset({"", "null", "none", "~"})
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def schema_path() -> Path:
    """Where the configuration schema is: in an installed package, or beside it in the workflow's tree."""
    installed = _PACKAGE / "schemas" / "config.schema.yaml"
    return installed if installed.exists() else _PACKAGE.parent / "schemas" / "config.schema.yaml"


@functools.cache
def load_schema() -> Mapping[str, Any]:
    """The configuration schema (JSON Schema 2020-12)."""
    return yaml.safe_load(schema_path().read_text(encoding="utf-8"))


def defaults() -> dict[str, Any]:
    """Every option with its default."""
    return _fill_defaults({}, load_schema())


def complete(given: Mapping[str, Any]) -> dict[str, Any]:
    """The whole configuration from the options given: checked, typed, defaults filled in.

    What an earlier run recorded of itself in a configuration (:data:`STATE`) is left out.

    Raises
    ------
    ConfigError
        For the first option that is unknown, of a wrong type or out of range.
    """
    schema = load_schema()
    state = given.get(STATE)
    given = {key: value for key, value in given.items() if key != STATE}
    try:
        _refuse_unknown(given, schema, ())
    except ConfigError as error:
        raise ConfigError(f"{error}{_of_another_version(state)}") from None
    config = _fill_defaults(_read_text(given, schema), schema)
    _refuse_invalid(config, schema)
    _refuse_inconsistent(config)
    return config


def positions_as_written(given: Mapping[str, Any], paths: Iterable[Path | str]) -> dict[str, str]:
    """Sexagesimal ``ra`` and ``dec`` of configuration files, as text.

    YAML reads ``14:15:46.25`` without quotes as a number of base 60, and loses the sign of ``-00:30:00``.

    Parameters
    ----------
    given
        The options as they were read; what the command line gave in place of a file's value is left alone.
    paths
        The configuration files, the last one counts.
    """
    written: dict[str, str] = {}
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        as_text, as_read = yaml.load(text, yaml.BaseLoader), yaml.safe_load(text)  # noqa: S506 - it makes only text
        written |= _sexagesimal(as_text, as_read, given)
    return written


def _sexagesimal(as_text: Any, as_read: Any, given: Mapping[str, Any]) -> dict[str, str]:
    """Positions of a section and those within it: options of a module stand in a section of their own."""
    found: dict[str, str] = {}
    for key, value in as_text.items() if isinstance(as_text, dict) and isinstance(as_read, dict) else ():
        if isinstance(value, dict):
            found |= _sexagesimal(value, as_read.get(key), given)
        elif key in ("ra", "dec") and ":" in value and as_read[key] == given.get(key):
            found[key] = value
    return found


def _refuse_unknown(given: Any, schema: Mapping[str, Any], path: tuple[str, ...]) -> None:
    known = schema.get("properties")
    if known is None or not isinstance(given, Mapping):
        return
    for key, value in given.items():
        option = ".".join((*path, str(key)))
        if key not in known:
            raise ConfigError(f"{option}: no such option{_suggestion(str(key), known, path)}")
        _refuse_unknown(value, known[key], (*path, key))


def _of_another_version(state: Any) -> str:
    """What else there is to say of an unknown option when the options are the record of a run by another version."""
    versions = state.get("versions") if isinstance(state, Mapping) else None
    version = versions.get("spxflow") if isinstance(versions, Mapping) else None
    if version in (None, __version__):
        return ""
    return f" (the file is of spxflow {version}, this is {__version__}: take the option out of it)"


def _suggestion(key: str, known: Mapping[str, Any], path: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5) or [key.lower()]
    if near[0] in known:
        return f"; did you mean {'.'.join((*path, near[0]))}?"
    elsewhere = [option for option, _ in options() if option.rsplit(".", 1)[-1] == key]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}?"
    return f"; {'.'.join(path) or 'the top level'} takes {', '.join(known)}"


def options(section: Mapping[str, Any] | None = None, name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every option of a section (None: of all) as (dotted name, its schema), in the order of the schema."""
    for key, entry in (section or load_schema())["properties"].items():
        if "properties" in entry:
            yield from options(entry, f"{name}{key}.")
        else:
            yield f"{name}{key}", entry


def _read_text(value: Any, schema: Mapping[str, Any]) -> Any:
    """Text from the command line as the type the schema asks for; what cannot be read stays for the check to refuse."""
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if isinstance(value, Mapping):
        entries = schema.get("properties", {})
        return {key: _read_text(entry, entries.get(key, {})) for key, entry in value.items()}
    if value is None and "object" in types:
        return {}
    if "array" in types and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        value = [part.strip() for part in str(value).strip("[] ").split(",") if part.strip()]
    if isinstance(value, (list, tuple)):
        return [_read_text(entry, schema.get("items", {})) for entry in value]
    if isinstance(value, str) and schema.get("format") == "path":
        value = os.path.expandvars(os.path.expanduser(value))
    if isinstance(value, str):
        return _read_scalar(value, types)
    numeric = {"number", "integer"} & set(types)
    if "string" in types and not numeric and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _read_scalar(text: str, types: list[str]) -> Any:
    word = text.strip().lower()
    if "null" in types and word in _NULLS:
        return None
    if "boolean" in types and word in _BOOLEANS:
        return _BOOLEANS[word]
    for kind, parse in (("integer", int), ("number", float)):
        if kind in types:
            try:
                return parse(text)
            except ValueError:
                continue
    return text


def _fill_defaults(given: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    filled: dict[str, Any] = {}
    for key, entry in schema["properties"].items():
        if "properties" in entry:
            section = given.get(key, {})
            filled[key] = _fill_defaults(section, entry) if isinstance(section, Mapping) else section
        else:
            filled[key] = given[key] if key in given else copy.deepcopy(entry.get("default"))
    return filled


def _refuse_invalid(config: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema).iter_errors(config):
        names = [str(part) for part in error.absolute_path if not isinstance(part, int)]
        raise ConfigError(
            f"{'.'.join(names)}: got {_shown(error.instance)}, takes {accepted(error.schema)}{_near(error)}"
        )
    for option, entry in options():
        value = functools.reduce(lambda section, key: section[key], option.split("."), config)
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{option}: got {value}, takes {accepted(entry)}")


def _near(error: ValidationError) -> str:
    choices = [str(choice) for choice in error.schema.get("enum", [])]
    near = [choice for choice in choices if choice.lower() == str(error.instance).lower()]
    near = near or difflib.get_close_matches(str(error.instance), choices, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def accepted(entry: Mapping[str, Any]) -> str:
    """What an option takes, in words, from its schema entry."""
    kinds = entry.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "enum" in entry:
        words = [_choices_in_words(entry["enum"])]
    elif "patternHint" in entry:
        words = [entry["patternHint"]]
    else:
        words = [_kind_in_words(kind, entry) for kind in kinds if kind != "null"]
    return " or ".join(words + ["null"] * ("null" in kinds))


def _choices_in_words(choices: list[Any]) -> str:
    numbers = [choice for choice in choices if isinstance(choice, int) and not isinstance(choice, bool)]
    names = [str(choice).lower() if isinstance(choice, bool) else choice for choice in choices if choice not in numbers]
    text = "one of " + ", ".join(names)
    return f"{text}, or a number from {numbers[0]} to {numbers[-1]}" if numbers else text


def _kind_in_words(kind: str, entry: Mapping[str, Any]) -> str:
    if kind == "array":
        least, most = entry.get("minItems", 0), entry.get("maxItems")
        count = f"{least} " if least == most else f"at least {least} " if least else ""
        each = ", each once" if entry.get("uniqueItems") else ""
        return f"a list of {count}entries ({accepted(entry['items'])}){each}"
    if kind in ("number", "integer"):
        return {"number": "a number", "integer": "a whole number"}[kind] + _range_in_words(entry)
    if kind == "string" and "maxLength" in entry:
        return f"text of at most {entry['maxLength']} characters"
    return {"string": "text", "boolean": "true or false", "object": "a section of options"}[kind]


def _range_in_words(entry: Mapping[str, Any]) -> str:
    names = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    bounds = [f"{words} {entry[key]:g}" for key, words in names.items() if key in entry]
    return " " + " and ".join(bounds) if bounds else ""


def is_batch(config: Mapping[str, Any]) -> bool:
    """Whether all files of a source are done in one job: as configured, or for a catalogue."""
    return config["sources"] is not None if config["batch"] == "auto" else config["batch"]


def shares_images(config: Mapping[str, Any]) -> bool:
    """Whether sources of a catalogue use the same whole images."""
    return is_batch(config) and config["sources"] is not None and config["download"]["mode"] == "full"


_PLACES = frozenset(
    {
        *("archive", "batch", "outdir", "calibration.directory", "calibration.check_days"),
        *("photometry.neighbours.file", "photometry.neighbours.catalogue"),  # neighbours count, not where they stand
        *("sources", "ra", "dec", "name"),  # and so does a source, whether it is given alone or in a catalogue
        *MOTION,
    }
)
_USUAL_CALIBRATION = {"slim": False, "wavelength": "table", "solid_angle": "wcs", "harmonise": False}


def product_options(config: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """The options that products depend on: without those that say where things are and how patiently to ask."""
    return {
        key: product_options(value, f"{section}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{section}{key}" not in _PLACES
    }


def calibration_in_use(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of an exposure's calibration comes from where: the options that name it."""
    slim = config["download"]["mode"] == "slim"
    return {"slim": slim} | {option: config["calibration"][option] for option in _USUAL_CALIBRATION if option != "slim"}


def needs_calibration(config: Mapping[str, Any]) -> bool:
    """Whether exposures need calibration files besides their own."""
    return calibration_in_use(config) != _USUAL_CALIBRATION


def _refuse_inconsistent(config: Mapping[str, Any]) -> None:
    if config["sources"] is not None:
        _refuse_another_source(config)
    if (config["ra"] is None) != (config["dec"] is None):
        absent = "ra" if config["ra"] is None else "dec"
        raise ConfigError(f"{absent}: got nothing, takes a position since the other coordinate is given")
    query, zodi = config["query"], config["photometry"]["zodi"]
    if None not in (query["mjd_min"], query["mjd_max"]) and query["mjd_min"] > query["mjd_max"]:
        raise ConfigError(
            f"query.mjd_min: got {query['mjd_min']}, takes a time before query.mjd_max {query['mjd_max']}"
        )
    if zodi["scale_min"] >= zodi["scale_max"]:
        raise ConfigError(
            f"photometry.zodi.scale_min: got {zodi['scale_min']}, takes less than scale_max {zodi['scale_max']}"
        )
    if config["plot"]["ylim_percentiles"][0] >= config["plot"]["ylim_percentiles"][1]:
        raise ConfigError(
            f"plot.ylim_percentiles: got {config['plot']['ylim_percentiles']}, takes the lower percentile first"
        )
    if shares_images(config) and not config["download"]["keep"]:
        raise ConfigError(
            "download.keep: got false, takes true for whole images of a catalogue, which its sources share"
            " (or batch=false: each source fetches its own)"
        )
    photometry = config["photometry"]
    needed = photometry["primary"].removesuffix("_raw")
    if needed not in photometry["estimators"]:
        raise ConfigError(
            f"photometry.primary: got {photometry['primary']!r}, takes an estimator of photometry.estimators "
            f"({', '.join(photometry['estimators'])})"
        )


def _refuse_another_source(config: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for what only a single source has, and a catalogue in its columns."""
    if config["ra"] is not None or config["dec"] is not None:
        raise ConfigError("sources: got a catalogue besides ra and dec, takes one or the other")
    for option in ("name", "pmra_masyr", "pmdec_masyr", "parallax_mas"):
        if config[option]:
            raise ConfigError(f"{option}: got {config[option]!r} besides a catalogue, which has a column for it")


class Section:
    """A section of the configuration as a dataclass, whose defaults are those of the schema."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """From its options; sections within it by their own dataclasses."""
        values: dict[str, Any] = {}
        for entry in dataclasses.fields(cls):  # type: ignore[arg-type]
            if entry.name not in options:
                continue
            value = options[entry.name]
            default = None if entry.default_factory is dataclasses.MISSING else entry.default_factory()
            if isinstance(default, Section):
                value = type(default).from_options(value or {})
            elif isinstance(value, list):
                value = tuple(value)
            values[entry.name] = value
        return cls(**values)


def document() -> str:
    """The text of ``config/config.yaml``: every option with default, unit and meaning, from the schema."""
    lines = [
        "# Every option with its default, unit and meaning (kept in step with workflow/schemas/config.schema.yaml).",
        "# Override single ones with   --config ra=213.94 dec=11.49 bands=D1,D4 photometry='{primary: aperture}'",
        "# or keep your own file with only what differs and pass it with --configfile.",
    ]
    _document_section(load_schema(), 0, lines)
    return "\n".join(lines) + "\n"


def _document_section(schema: Mapping[str, Any], depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for key, entry in schema["properties"].items():
        if "heading" in entry:
            lines += ["", f"# --- {entry['heading']} " + "-" * max(4, 90 - len(entry["heading"]))]
        if "properties" in entry:
            description = entry.get("description")
            lines.append(f"{indent}{key}:" + (f"  # {description}" if description else ""))
            _document_section(entry, depth + 1, lines)
        else:
            value = (
                yaml.safe_dump(entry["default"], default_flow_style=True, width=10_000).removesuffix("...\n").strip()
            )
            lines.append(f"{indent}{key}: {value}".ljust(30) + f"  # {entry['description']}")


if __name__ == "__main__":
    print(document(), end="")
