"""Names of celestial objects, resolved to positions by Sesame (SIMBAD, NED, VizieR)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote

from spxflow.archive.errors import ArchiveError, reason
from spxflow.archive.settings import ArchiveSettings

_SERVERS = "SNV"
_POSITION = re.compile(r"^%J\s+(?P<ra>[-+0-9.]+)\s+(?P<dec>[-+0-9.]+)", re.MULTILINE)
_MOTION = re.compile(r"^%P\s+(?P<ra>[-+0-9.eE]+)\s+(?P<dec>[-+0-9.eE]+)", re.MULTILINE)
_PARALLAX = re.compile(r"^%X\s+(?P<parallax>[-+0-9.eE]+)", re.MULTILINE)
_LARGEST_ANSWER_MB = 1.0


@dataclass(frozen=True)
class ResolvedName:
    """Position (ICRS, degrees, at J2000) of a name, proper motion in mas/yr and parallax in mas (0: not known)."""

    name: str
    ra_deg: float
    dec_deg: float
    pmra_masyr: float = 0.0
    pmdec_masyr: float = 0.0
    parallax_mas: float = 0.0
    epoch_yr: float = 2000.0


def resolve_name(name: str, settings: ArchiveSettings) -> ResolvedName:
    """Position of a named object.

    Raises
    ------
    ArchiveError
        When no resolver knows the name, or none can be asked.
    """
    from requests import RequestException

    from spxflow.archive.session import QuerySession

    bounded = replace(settings, max_answer_mb=_LARGEST_ANSWER_MB, timeout_s=min(settings.timeout_s, 60.0))
    url = f"{settings.sesame_url.rstrip('/')}/-oI/{_SERVERS}?{quote(name.strip(), safe='')}"
    instead = "give ra and dec instead"
    try:
        with QuerySession(bounded, elsewhere=True) as session:
            response = session.get(url)
            response.raise_for_status()
    except (RequestException, ValueError) as error:
        silent = f"{settings.sesame_url} does not answer ({reason(error)})"
        raise ArchiveError(f"name {name!r} cannot be resolved, {silent}: {instead}") from error
    position = _POSITION.search(response.text)
    if position is None:
        raise ArchiveError(f"name {name!r} is not known to SIMBAD, NED or VizieR: {instead}")
    ra_deg, dec_deg = float(position["ra"]), float(position["dec"])
    if not (0.0 <= ra_deg < 360.0 and -90.0 <= dec_deg <= 90.0):
        raise ArchiveError(f"name {name!r} was resolved to no position on the sky, {ra_deg} {dec_deg}: {instead}")
    motion, parallax = _MOTION.search(response.text), _PARALLAX.search(response.text)
    return ResolvedName(
        name=name,
        ra_deg=ra_deg,
        dec_deg=dec_deg,
        pmra_masyr=float(motion["ra"]) if motion else 0.0,
        pmdec_masyr=float(motion["dec"]) if motion else 0.0,
        parallax_mas=float(parallax["parallax"]) if parallax else 0.0,
    )
