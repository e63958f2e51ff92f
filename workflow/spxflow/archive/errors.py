"""What the archive's query services did not do, in one line."""

from __future__ import annotations

import re
import socket


class ArchiveError(RuntimeError):
    """A query service cannot be asked, or its answer cannot be used."""


def reason(error: BaseException) -> str:
    """Why a query failed, in one line; where there was no answer, the innermost error, which its wrappers repeat."""
    chain = [error]
    while (inner := chain[-1].__cause__ or chain[-1].__context__) is not None and inner not in chain:
        chain.append(inner)
    proxy = any("proxy" in f"{type(one).__name__}: {one}".lower() for one in chain)
    see = "see http_proxy, https_proxy and no_proxy" if proxy else "is the network up, and the address right?"
    if any(isinstance(one, (ConnectionError, TimeoutError, socket.gaierror)) for one in chain):
        inner = getattr(chain[-1], "strerror", None) or chain[-1]
        return f"no answer{' of the proxy' * proxy}: {one_line(inner) or type(inner).__name__}; {see}"
    return f"{one_line(error)}; {see}" if proxy else one_line(error)


def one_line(error: BaseException | str, length: int = 200) -> str:
    """The first words of an error or an error page, tags and line breaks taken out."""
    text = re.sub(r"<[^>]*>", " ", str(error)[:20_000])
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 3] + "..."
