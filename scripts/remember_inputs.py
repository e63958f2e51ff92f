"""Notice when a source was made by a run whose notes Snakemake does not have here.

Snakemake keeps in the working directory what each file was made from, and sees by it what an option changed. A run from
another directory has no such notes: it would take old files for new ones. So each source carries the name of its notes
and digests of the options it was made with.
"""

import secrets
from pathlib import Path

from spxflow import files
from spxflow.errors import ConfigError
from spxflow.journal import digest_of

_NOTES = Path(".snakemake/spxflow")


class Inputs:
    """What the products of a source are made from.

    Parameters
    ----------
    directory : str
        Directory of the source.
    options
        Anything that its products depend on, as plain values.
    """

    def __init__(self, directory, options):
        self._directory = directory
        self._path = Path(directory) / "records" / "inputs.json"
        self._digest = digest_of(options)

    def _earlier(self):
        """Options of all runs since the records began, some of which may have made a part of the products only."""
        try:
            earlier = files.read_json(self._path)
        except (OSError, ValueError):
            return {"options": [], "notes": ""}
        options = earlier["options"]  # one, in records of an earlier version
        return {**earlier, "options": [options] if isinstance(options, str) else options}

    def refuse_forgotten(self):
        """Raise `ConfigError` where an earlier run had other options, and its notes are not here."""
        earlier = self._earlier()
        if {*earlier["options"]} - {self._digest} and not (_NOTES / earlier["notes"]).exists():
            raise ConfigError(
                f"{self._directory} was made with other options by a run in another working directory, which has "
                "Snakemake's notes of it; run it there, choose another outdir or name, or remove "
                f"{self._directory}/records to begin anew"
            )

    def remember(self):
        """Note the options of a run that begins."""
        _NOTES.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in _NOTES.iterdir()]
        name = names[0] if names else secrets.token_hex(8)
        (_NOTES / name).touch()
        options = [*dict.fromkeys([*self._earlier()["options"], self._digest])]
        files.write_json(self._path, {"options": options, "notes": name})
