"""Notice when a source was made by a run whose notes Snakemake does not have here.

Snakemake keeps in the working directory what each file was made from, and sees by it what an option changed. A run from
another directory has no such notes: it would take old files for new ones. So each source carries the name of its notes
and a digest of its options.
"""

import secrets
from pathlib import Path

from spxflow import files
from spxflow.errors import ConfigError
from spxflow.journal import digest_of


class Inputs:
    """What the products of a source are made from.

    Parameters
    ----------
    directory : str
        Directory of the source.
    options
        Anything that its products depend on, as plain values.
    notes : str
        Directory in which Snakemake keeps its notes.
    """

    def __init__(self, directory, options, notes=".snakemake"):
        self._directory = directory
        self._path = Path(directory) / "records" / "inputs.json"
        self._digest = digest_of(options)
        self._notes = Path(notes) / "spxflow"

    def refuse_forgotten(self):
        """Raise `ConfigError` where an earlier run had other options, and its notes are not here."""
        try:
            earlier = files.read_json(self._path)
        except (OSError, ValueError):
            return
        if earlier["options"] != self._digest and not (self._notes / earlier["notes"]).exists():
            raise ConfigError(
                f"{self._directory} was made with other options by a run in another working directory, which has "
                "Snakemake's notes of it; run it there, choose another outdir or name, or remove "
                f"{self._directory}/records to begin anew"
            )

    def remember(self):
        """Note the options of a run that begins."""
        self._notes.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in self._notes.iterdir()]
        name = names[0] if names else secrets.token_hex(8)
        (self._notes / name).touch()
        files.write_json(self._path, {"options": self._digest, "notes": name})
