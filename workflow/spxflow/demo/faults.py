"""What goes wrong between an archive and its clients: on purpose here, and repeatably.

A plan says which answers are spoilt: by path for successive attempts, and at random with given
rates. The same plan spoils the same attempts of the same paths whatever the order of requests.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from spxflow.demo.web import IRSA, Response, error_page
from spxflow.mef.blocks import whole

KINDS = {
    "reset": "connection reset, after `fraction` of the answer",
    "truncated": "connection closed after `fraction` of the answer",
    "stall": "nothing more comes for `seconds` after `fraction` of the answer, then the rest",
    "drip": "`bytes_per_s` come a second",
    "html": "an HTML page with status 200",
    "random": "random bytes with status 200",
    "empty": "nothing with status 200",
    "missing_hdu": "a FITS file without its HDU `hdu`",
}
"""Kinds of faults besides the HTTP statuses 400 to 599, which are written as a number."""

RATE_PATHS = ("/ibe/data/*", "/s3/*")
"""Patterns of the paths that have faults at random."""

_RANDOM_BYTES = 20_000


@dataclass(frozen=True)
class Fault:
    """One way in which an answer is spoilt; what its kind does not use is ignored."""

    kind: str
    retry_after_s: float | None = None
    fraction: float | None = None
    seconds: float = 5.0
    bytes_per_s: float = 2000.0
    hdu: str = "VARIANCE"

    def __post_init__(self) -> None:
        if self.kind not in KINDS and self.status is None:
            raise ValueError(f"unknown fault {self.kind!r}: takes a status from 400 to 599, {', '.join(KINDS)}")

    @property
    def status(self) -> int | None:
        """The HTTP status, when the fault is one."""
        return int(self.kind) if self.kind.isdigit() and 400 <= int(self.kind) <= 599 else None

    @property
    def sent_fraction(self) -> float:
        """Part of the answer that is sent before the fault strikes: all of it, unless the kind is to cut it."""
        if self.kind not in ("reset", "truncated", "stall"):
            return 1.0
        if self.fraction is not None:
            return self.fraction
        return 0.0 if self.kind == "reset" else 0.5

    @classmethod
    def parse(cls, value: str | int | Mapping[str, Any]) -> Fault:
        """From its kind alone, or a mapping of its fields."""
        if isinstance(value, Mapping):
            return cls(**{**value, "kind": str(value.get("kind", ""))})
        return cls(str(value))

    def replacement(self, path: str) -> Response | None:
        """The answer that takes the place of the real one, if the kind is such."""
        if self.status is not None:
            wait = self.retry_after_s
            if wait is None and self.status == 429:
                wait = 1.0
            return error_page(self.status, headers={} if wait is None else {"Retry-After": f"{wait:g}"})
        if self.kind == "html":
            page = f'<!DOCTYPE html><html><body><h1>IRSA</h1><a href="{IRSA}">Service is busy</a></body></html>\n'
            return Response(page.encode(), "text/html; charset=utf-8")
        if self.kind == "empty":
            return Response(b"", "image/fits")
        if self.kind == "random":
            return Response(hashlib.shake_128(path.encode()).digest(_RANDOM_BYTES), "image/fits")
        return None


@dataclass(frozen=True)
class FaultPlan:
    """Which answers are spoilt, and how slow all of them are.

    Parameters
    ----------
    by_path
        Pairs of a path pattern (shell style, on the path of the URL) and its faults: a sequence is
        for successive attempts (``None``: a good answer; good ones follow its end), a single fault
        is for all of them. The first pattern that matches counts.
    rates
        Pairs of a fault and its probability, for paths that match :data:`RATE_PATHS` and none above.
    seed
        Of the random choice.
    latency_s
        Wait before every answer, seconds.
    bytes_per_s
        Bandwidth of a connection; ``None``: as fast as it goes.
    """

    by_path: tuple[tuple[str, tuple[Fault | None, ...] | Fault], ...] = ()
    rates: tuple[tuple[Fault, float], ...] = ()
    seed: int = 0
    latency_s: float = 0.0
    bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= sum(rate for _, rate in self.rates) <= 1.0:
            raise ValueError("the rates of faults add up to more than 1")

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> FaultPlan:
        """From JSON, for example::

        {"seed": 7, "latency_s": 0.3, "bytes_per_s": 3e6,
         "rates": {"503": 0.1, "reset": 0.1, "429": {"rate": 0.1, "retry_after_s": 0.2}},
         "files": {"*0062_1D3*": ["404", null, "truncated"], "*0062_1D6*": "404",
                   "*0063_1D6*": {"kind": "missing_hdu", "hdu": "PSF"}}}
        """
        known = {field.name for field in dataclasses.fields(cls)} - {"by_path"} | {"files"}
        if unknown := set(settings) - known:
            raise ValueError(
                f"unknown in a plan of faults: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        others = {name: value for name, value in settings.items() if name not in ("files", "rates")}
        return cls(
            by_path=tuple((pattern, _faults(value)) for pattern, value in settings.get("files", {}).items()),
            rates=tuple(_rated(kind, value) for kind, value in settings.get("rates", {}).items()),
            **others,
        )

    def fault(self, path: str, attempt: int) -> Fault | None:
        """What strikes the given attempt (0: the first) of a path."""
        for pattern, faults in self.by_path:
            if fnmatchcase(path, pattern):
                if isinstance(faults, Fault):
                    return faults
                return faults[attempt] if attempt < len(faults) else None
        if not any(fnmatchcase(path, pattern) for pattern in RATE_PATHS):
            return None
        draw = _uniform(self.seed, path, attempt)
        for fault, rate in self.rates:
            if draw < rate:
                return fault
            draw -= rate
        return None


def _faults(value: Any) -> tuple[Fault | None, ...] | Fault:
    if isinstance(value, list):
        return tuple(None if item is None else Fault.parse(item) for item in value)
    return Fault.parse(value)


def _rated(kind: str, value: float | Mapping[str, Any]) -> tuple[Fault, float]:
    if isinstance(value, Mapping):
        fields = {name: item for name, item in value.items() if name != "rate"}
        return Fault.parse({**fields, "kind": kind}), float(value["rate"])
    return Fault(kind), float(value)


def _uniform(seed: int, path: str, attempt: int) -> float:
    """A number in [0, 1) that depends on the arguments alone."""
    digest = hashlib.blake2b(f"{seed}/{attempt}/{path}".encode(), digest_size=7).digest()
    return int.from_bytes(digest) / 2**56


def without_hdu(content: bytes, name: str) -> bytes:
    """A FITS file without the HDU of that name; as it is when there is none."""
    return b"".join(content[hdu.start : hdu.end] for hdu in whole(content) if hdu.name != name)
