"""Addresses that the archive answers with: on the archive's own host, or refused."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from spxflow.archive.settings import IRSA_URL

DATA_ROOT = "/ibe/data/spherex/"

_IRSA_HOST = urlsplit(IRSA_URL).netloc
_DATA_PATH = re.compile(r"/[A-Za-z0-9._~/+-]+")


def moved_url(url: str, archive_url: str) -> str:
    """An address from an answer of the archive, on the host that the archive is configured to be.

    Addresses on the IRSA host move to ``archive_url``; addresses on its own host stay.

    Raises
    ------
    ValueError
        For any other host or scheme.
    """
    parts = urlsplit(url.strip())
    own = urlsplit(archive_url)
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"not a web address: {url[:200]!r}")
    if parts.netloc == own.netloc:
        return url.strip()
    if parts.netloc == _IRSA_HOST:
        return archive_url + url.strip().split(_IRSA_HOST, 1)[1]
    raise ValueError(f"points to another host than the archive: {parts.netloc[:100]!r}")


def data_url(address: str, archive_url: str) -> str:
    """Address of a data file from a path below the archive's host or a whole URL.

    Raises
    ------
    ValueError
        For another host, or a path that is not below the archive's data or has anything but plain names in it.
    """
    address = address.strip()
    url = moved_url(address, archive_url) if "://" in address else f"{archive_url}/{address.lstrip('/')}"
    parts = urlsplit(url)
    plain = _DATA_PATH.fullmatch(parts.path) and not {"", ".", ".."} & set(parts.path.split("/")[1:])
    if parts.query or parts.fragment or not plain or DATA_ROOT not in parts.path:
        raise ValueError(f"not the path of a data file: {address[:200]!r}")
    return url


def data_path(url: str) -> str:
    """Place of a data file below the archive's host, from its address.

    Raises
    ------
    ValueError
        When it is not the address of a data file.
    """
    _, found, key = url.partition(DATA_ROOT)
    if not found:
        raise ValueError(f"not the address of a data file: {url[:200]!r}")
    return DATA_ROOT + key


def relocated_url(url: str, archive_url: str) -> str:
    """Address of a data file that an earlier query found, on the host that the archive is configured to be now.

    Raises
    ------
    ValueError
        When it is not the address of a data file.
    """
    return data_url(data_path(url), archive_url)
