"""What a savings report is asked: when, of what, grouped how, in which currency. Read and checked once."""

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import shapely
from shapely.geometry import shape

from app.core import money
from app.core.errors import AreaRefused, Unprocessable

PERIODS: Final = {"day": "YYYY-MM-DD", "week": 'IYYY"-W"IW', "month": "YYYY-MM"}
PLAIN: Final = ("release", "product", "class", "aoi", "currency")
MAX_GROUPINGS: Final = 4
MAX_AOIS: Final = 50
MAX_AOI_POINTS: Final = 10_000

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_RATE = re.compile(r"(\d{4}-\d{2}-\d{2}):([A-Z]{3})=(\d{1,12}(?:\.\d{1,12})?)", re.ASCII)
_BOX = re.compile(r"(?:([^:,{}]{1,64}):)?(-?\d+(?:\.\d+)?(?:,-?\d+(?:\.\d+)?){3})", re.ASCII)


@dataclass(frozen=True)
class Aoi:
    """An area by its name; a tile is in it when its middle is."""

    name: str
    geometry: shapely.Geometry


@dataclass(frozen=True)
class Rate:
    """From that day on, one unit of ``currency`` is ``rate`` units of the report's."""

    since: date
    currency: str
    rate: Decimal


@dataclass(frozen=True)
class Question:
    """A checked question."""

    org_id: uuid.UUID
    since: datetime | None = None
    until: datetime | None = None
    group_by: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    products: tuple[str, ...] = ()
    releases: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    aois: tuple[Aoi, ...] = ()
    currency: str | None = None
    rates: tuple[Rate, ...] = ()

    @property
    def needs_class(self) -> bool:
        """Whether a tile's class decides where it counts."""
        return bool(self.classes) or "class" in self.group_by


def read_moment(name: str, text: str | None) -> datetime | None:
    """A date (its midnight in UTC) or a date and time (UTC unless it says so); raises Unprocessable."""
    if text is None:
        return None
    try:
        if _DATE.fullmatch(text):
            return datetime.combine(date.fromisoformat(text), time(), UTC)
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise refused(name, f"{name} must be a date such as 2026-11-01, or a date and time.") from None


def read_groupings(values: Iterable[str]) -> tuple[str, ...]:
    """``group_by`` once or several times, with commas or without; raises Unprocessable.

    Other words, more than one period and more than four groupings are refused.
    """
    names: list[str] = []
    for value in values:
        for part in value.split(","):
            name = part.strip().removeprefix("period:")
            if not (name in PERIODS or name in PLAIN or (name[:4] == "tag:" and len(name) > 4)):
                raise refused(
                    "group_by",
                    "group_by takes day, week, month, release, product, class, aoi, currency and tag:KEY.",
                )
            # groups are separated by currency anyway
            if name != "currency" and name not in names:
                names.append(name)
    if sum(name in PERIODS for name in names) > 1 or len(names) > MAX_GROUPINGS:
        raise refused("group_by", f"group_by takes one period, and {MAX_GROUPINGS} groupings at most.")
    return tuple(names)


def read_tags(values: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``KEY=VALUE`` filters; raises Unprocessable."""
    found = []
    for value in values:
        key, equals, wanted = value.partition("=")
        if not (key and equals):
            raise refused("tag", "tag is KEY=VALUE.")
        found.append((key, wanted))
    return tuple(found)


def read_rates(currency: str | None, values: Iterable[str]) -> tuple[str | None, tuple[Rate, ...]]:
    """The currency of the report and the dated rates into it; raises Unprocessable."""
    rates = []
    for value in values:
        match = _RATE.fullmatch(value)
        try:
            if match is None:
                raise ValueError("rate is DATE:CURRENCY=RATE, such as 2026-11-01:USD=0.92")
            rate = Decimal(match[3])
            if rate <= 0:
                raise ValueError("a rate is above 0")
            rates.append(Rate(date.fromisoformat(match[1]), money.parse_currency(match[2]), rate))
        except ValueError as error:
            raise refused("rate", f"{error}.") from None
    if rates and currency is None:
        raise refused("currency", "rate needs currency: the one that everything is counted in.")
    if currency is not None:
        try:
            money.parse_currency(currency)
        except ValueError as error:
            raise refused("currency", f"{error}.") from None
    if any(rate.currency == currency for rate in rates):
        raise refused("rate", f"rate is into {currency}, which is worth 1 of itself on every day.")
    if len({(rate.since, rate.currency) for rate in rates}) != len(rates):
        raise refused("rate", "rate has a currency twice for one day.")
    return currency, tuple(rates)


def check_texts(**given: Sequence[str] | None) -> None:
    """Raises Unprocessable for what no row can hold: a NUL character, or an endless text."""
    for name, values in given.items():
        if any("\0" in value or len(value) > 1000 for value in values or ()):
            raise refused(name, f"{name} has a NUL character, or more than 1000 characters.")


def read_aois(values: Sequence[str]) -> tuple[Aoi, ...]:
    """Areas as ``west,south,east,north``, ``NAME:west,...`` or GeoJSON; raises AreaRefused."""
    found: list[Aoi] = []
    for value in values:
        match = _BOX.fullmatch(value.strip())
        if match is not None:
            west, south, east, north = (float(part) for part in match[2].split(","))
            if west >= east or south >= north:
                raise _area(
                    "An aoi's box is west,south,east,north; across the 180th meridian it is two boxes."
                )
            geometry = shapely.box(west, south, east, north)
            found.append(Aoi(match[1] or str(len(found) + 1), checked_area(geometry)))
            continue
        for name, raw in _features(value):
            found.append(Aoi(name or str(len(found) + 1), _geojson(raw)))
    if not all(aoi.name.isprintable() for aoi in found):
        raise _area("An area's name holds characters that cannot be printed.")
    if len(found) > MAX_AOIS or len({aoi.name for aoi in found}) != len(found):
        raise _area(f"At most {MAX_AOIS} areas, each with a name of its own.")
    return tuple(found)


def _features(text: str) -> list[tuple[str | None, Any]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise _area("aoi is west,south,east,north or GeoJSON.") from None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "FeatureCollection" and isinstance(value.get("features"), list):
        members = value["features"]
    elif kind == "Feature":
        members = [value]
    else:
        return [(None, value)]
    if not all(isinstance(member, dict) for member in members):
        raise _area("A feature is no object.")
    return [(_name_of(member), member.get("geometry")) for member in members]


def _name_of(feature: dict[str, Any]) -> str | None:
    properties = feature.get("properties")
    name = properties.get("name") if isinstance(properties, dict) else None
    if isinstance(name, dict | list) or isinstance(feature.get("id"), dict | list):
        raise _area("An area's name is a text or a number.")
    return str(name if name is not None else feature["id"])[:64] if name or "id" in feature else None


def _geojson(raw: Any) -> shapely.Geometry:
    if not isinstance(raw, dict) or raw.get("type") not in ("Polygon", "MultiPolygon"):
        raise _area("An area is a Polygon or a MultiPolygon.")
    try:
        return checked_area(shape(raw))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, shapely.errors.ShapelyError):
        raise _area("The area's coordinates make no polygon.") from None


def checked_area(geometry: shapely.Geometry) -> shapely.Geometry:
    """The area if one can tell what is inside it; raises AreaRefused."""
    if geometry.is_empty or shapely.get_num_coordinates(geometry) > MAX_AOI_POINTS:
        raise _area(f"An area has 4 to {MAX_AOI_POINTS} points.")
    west, south, east, north = geometry.bounds
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise _area("An area's coordinates are longitude, then latitude, in degrees.")
    if east - west > 180:
        raise _area(
            "An area across the 180th meridian is two polygons, one on either side (RFC 7946, 3.1.9)."
        )
    if not geometry.is_valid:
        raise _area(f"The area crosses itself: {shapely.is_valid_reason(geometry)}.")
    return geometry


def refused(name: str, detail: str) -> Unprocessable:
    """The 422 for one parameter."""
    return Unprocessable(detail, errors=[{"loc": ["query", name], "detail": detail}])


def _area(detail: str) -> AreaRefused:
    return AreaRefused(detail, errors=[{"loc": ["query", "aoi"], "detail": detail}])
