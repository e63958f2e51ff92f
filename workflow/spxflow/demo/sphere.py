"""Points, circles and polygons on the sky: what ADQL and SIA ask of them.

Positions are ICRS in degrees, edges of polygons are great circles. Shapes travel as the text the
archive's tables carry: ``POINT ICRS ra dec``, ``CIRCLE ICRS ra dec radius``,
``POLYGON ICRS ra1 dec1 ra2 dec2 ...``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

Vector = tuple[float, float, float]


def unit_vector(ra: float, dec: float) -> Vector:
    """Direction of a position in degrees; right ascension is range-reduced."""
    if not -90.0 <= dec <= 90.0:
        raise ValueError(f"dec value {dec:g} lies outside valid interval [-90, 90]")
    cos_dec = math.cos(math.radians(dec))
    return (
        cos_dec * math.cos(math.radians(ra)),
        cos_dec * math.sin(math.radians(ra)),
        math.sin(math.radians(dec)),
    )


def _dot(a: Vector, b: Vector) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a: Vector, b: Vector) -> Vector:
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def _normalised(a: Vector) -> Vector:
    norm = math.hypot(*a)
    return (a[0] / norm, a[1] / norm, a[2] / norm)


def separation(a: Vector, b: Vector) -> float:
    """Angle between two directions, radians; exact for small and for large ones."""
    return math.atan2(math.hypot(*_cross(a, b)), _dot(a, b))


@dataclass(frozen=True)
class Circle:
    """All directions within ``radius`` (radians) of ``center``; a point is a circle of radius zero."""

    center: Vector
    radius: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.radius <= math.pi:
            raise ValueError(f"radius value {math.degrees(self.radius):g} lies outside valid interval [0, 180]")

    def covers(self, direction: Vector) -> bool:
        return separation(self.center, direction) <= self.radius


class Polygon:
    """A polygon smaller than a hemisphere, in either sense of rotation.

    ``center`` and ``radius`` (radians) are those of a circle around it.
    """

    def __init__(self, vertices: Sequence[Vector]) -> None:
        if len(vertices) > 1 and separation(vertices[0], vertices[-1]) < 1e-12:
            vertices = vertices[:-1]
        if len(vertices) < 3:
            raise ValueError("a polygon needs at least three vertices")
        self.vertices = tuple(vertices)
        self.center = _normalised(tuple(map(sum, zip(*vertices, strict=True))))  # type: ignore[arg-type]
        self.radius = max(separation(self.center, vertex) for vertex in vertices)
        if self.radius > math.radians(89.0):
            raise ValueError("a polygon must be smaller than a hemisphere")
        self._cos_radius = math.cos(self.radius) - 1e-15
        pole: Vector = (0.0, 0.0, 1.0) if abs(self.center[2]) < 0.9 else (1.0, 0.0, 0.0)
        self._east = _normalised(_cross(pole, self.center))
        self._north = _cross(self.center, self._east)
        self._flat = [self._project(vertex) for vertex in self.vertices]

    def _project(self, direction: Vector) -> tuple[float, float]:
        """Gnomonic projection about the centre: great circles become straight lines."""
        depth = _dot(direction, self.center)
        return _dot(direction, self._east) / depth, _dot(direction, self._north) / depth

    def covers(self, direction: Vector) -> bool:
        """Whether the direction is inside, by the parity of edges met on the way out."""
        if _dot(direction, self.center) < self._cos_radius:
            return False
        x, y = self._project(direction)
        inside = False
        x0, y0 = self._flat[-1]
        for x1, y1 in self._flat:
            if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
                inside = not inside
            x0, y0 = x1, y1
        return inside

    def edges(self) -> Iterable[tuple[Vector, Vector]]:
        return zip(self.vertices, self.vertices[1:] + self.vertices[:1], strict=True)

    def distance_to_edge(self, direction: Vector) -> float:
        """Angle to the nearest point of the outline, radians."""
        return min(_distance_to_arc(direction, start, end) for start, end in self.edges())


Shape = Circle | Polygon


def _distance_to_arc(direction: Vector, start: Vector, end: Vector) -> float:
    normal = _normalised(_cross(start, end))
    if _dot(_cross(normal, start), direction) >= 0.0 and _dot(_cross(end, normal), direction) >= 0.0:
        return abs(math.asin(max(-1.0, min(1.0, _dot(normal, direction)))))
    return min(separation(direction, start), separation(direction, end))


def _arcs_cross(a: Vector, b: Vector, c: Vector, d: Vector) -> bool:
    first, second = _cross(a, b), _cross(c, d)
    if _dot(first, c) * _dot(first, d) > 0.0 or _dot(second, a) * _dot(second, b) > 0.0:
        return False
    meeting = _cross(first, second)
    middle: Vector = (a[0] + b[0], a[1] + b[1], a[2] + b[2])
    other: Vector = (c[0] + d[0], c[1] + d[1], c[2] + d[2])
    return _dot(meeting, middle) * _dot(meeting, other) > 0.0


def _outlines_cross(a: Polygon, b: Polygon) -> bool:
    return any(_arcs_cross(*edge, *other) for edge in a.edges() for other in b.edges())


def contains(inner: Shape, outer: Shape) -> bool:
    """Whether the whole of ``inner`` lies in ``outer``."""
    if isinstance(inner, Circle):
        if isinstance(outer, Circle):
            return separation(inner.center, outer.center) + inner.radius <= outer.radius
        if not outer.covers(inner.center):
            return False
        return inner.radius == 0.0 or outer.distance_to_edge(inner.center) >= inner.radius
    if not all(outer.covers(vertex) for vertex in inner.vertices):
        return False
    return isinstance(outer, Circle) or not _outlines_cross(inner, outer)


def intersects(a: Shape, b: Shape) -> bool:
    """Whether the two have a point in common."""
    if separation(a.center, b.center) > a.radius + b.radius:
        return False
    if isinstance(a, Circle):
        if isinstance(b, Circle):
            return True
        return b.covers(a.center) or b.distance_to_edge(a.center) <= a.radius
    if isinstance(b, Circle):
        return intersects(b, a)
    return b.covers(a.vertices[0]) or a.covers(b.vertices[0]) or _outlines_cross(a, b)


def shape_text(kind: str, numbers: Iterable[float]) -> str:
    """The text of a shape, numbers in their shortest exact form."""
    return " ".join([kind, "ICRS", *(repr(float(number)) for number in numbers)])


@lru_cache(maxsize=65536)
def parse_shape(text: str) -> Shape:
    """The shape that a text stands for.

    Raises
    ------
    ValueError
        When the text is not of a known form, or the shape impossible.
    """
    kind, *words = text.split()
    if words and words[0].isalpha():
        words = words[1:]
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"not a shape: {text[:80]!r}") from None
    kind = kind.upper()
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"not a shape: {text[:80]!r}")
    if kind == "POINT" and len(numbers) == 2:
        return Circle(unit_vector(*numbers))
    if kind == "CIRCLE" and len(numbers) == 3:
        return Circle(unit_vector(*numbers[:2]), math.radians(numbers[2]))
    if kind == "POLYGON" and len(numbers) >= 6 and len(numbers) % 2 == 0:
        return Polygon([unit_vector(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)])
    raise ValueError(f"not a shape: {text[:80]!r}")
