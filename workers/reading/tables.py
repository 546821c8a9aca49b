"""Lists of pictures: CSV or GeoJSON with a path and a label, and perhaps a split, for each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from app.core.errors import DatasetTooLarge, MissingPictures, UnknownLayout, UnsafeNames
from models.data.folders import SPLITS
from workers.reading.heap import TABLES, Heap
from workers.reading.names import clean_label, clean_name, shown

PATHS: Final = ("path", "file", "filename", "image")
LABELS: Final = ("label", "class", "category")
SPLIT: Final = ("split", "subset")
MOST_BYTES: Final = 256 * 1024 * 1024
LISTED: Final = 20

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One line: ``name`` in the heap, ``path`` as listed, relative to the table."""

    name: str
    path: str
    label: str
    split: str | None


def find_tables(heap: Heap) -> list[str]:
    """The lists among a heap's files: those with columns for path and label, nearest to the root."""
    found = [
        name for name in heap.names if PurePosixPath(name).suffix.lower() in TABLES and _is_list(heap, name)
    ]
    depth = min((name.count("/") for name in found), default=0)
    return [name for name in found if name.count("/") == depth]


def read_tables(heap: Heap, names: Sequence[str]) -> list[Row]:
    """All rows of the lists; several lists must be called after splits, as ``train.csv`` and ``val.csv``.

    Raises UnknownLayout, UnknownLabels, UnsafeNames, MissingPictures.
    """
    stems = {name: SPLITS.get(PurePosixPath(name).stem.lower()) for name in names}
    if len(names) > 1 and None in stems.values():
        raise UnknownLayout(
            f"There are {len(names)} lists of pictures: keep one, or name them train, val and test."
        )
    rows: list[Row] = []
    seen: set[str] = set()
    for name in names:
        folder = PurePosixPath(name).parent
        for at, record in _records(heap, name):
            row = _row(f"{PurePosixPath(name).name}, {at}", folder, record, stems[name])
            if row.name in seen:
                raise UnsafeNames(f"A picture is listed twice: {shown(row.path)}", names=[shown(row.path)])
            seen.add(row.name)
            rows.append(row)
    if not rows:
        raise UnknownLayout("The list of pictures is empty.")
    if len({row.split is None for row in rows}) > 1:
        raise UnknownLayout("Some listed pictures have a split and some have none.")
    there = {*heap.names, *(name for name, _ in heap.damaged)}
    missing = [row.path for row in rows if row.name not in there]
    if missing:
        raise MissingPictures(
            f"{len(missing)} of {len(rows)} listed pictures are not there, for instance {shown(missing[0])}.",
            missing=[shown(path) for path in missing[:LISTED]],
        )
    return rows


def listed_paths(data: bytes, name: str) -> list[str]:
    """The paths that a list names, relative to it. Raises UnknownLayout, UnsafeNames."""
    return sorted({clean_name(str(_get(record, PATHS) or "")) for _, record in _parse(data, name)})


def _is_list(heap: Heap, name: str) -> bool:
    try:
        _, record = next(_records(heap, name))
    except (StopIteration, UnknownLayout):
        return False
    return _has(record, PATHS) and _has(record, LABELS)


def _records(heap: Heap, name: str) -> Iterator[tuple[str, Record]]:
    if heap.where[name][1] > MOST_BYTES:
        raise DatasetTooLarge(f"{shown(name)} has more than {MOST_BYTES} bytes.")
    return _parse(heap.read(name), name)


def _parse(data: bytes, name: str) -> Iterator[tuple[str, Record]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnknownLayout(f"{shown(name)} is not UTF-8 text.") from error
    if name.lower().endswith(".csv"):
        yield from _csv(text, name)
    else:
        yield from _geojson(text, name)


def _csv(text: str, name: str) -> Iterator[tuple[str, Record]]:
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for record in reader:
            yield f"line {reader.line_num}", _lowered(record)
    except csv.Error as error:
        raise UnknownLayout(f"{shown(name)} cannot be read as CSV: {error}") from error


def _geojson(text: str, name: str) -> Iterator[tuple[str, Record]]:
    try:
        features = json.loads(text)["features"]
        for number, feature in enumerate(features):
            yield f"feature {number}", _lowered(feature["properties"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownLayout(f"{shown(name)} is no GeoJSON FeatureCollection.") from error


def _lowered(record: Mapping[Any, Any]) -> Record:
    return {str(key).strip().lower(): value for key, value in record.items() if key is not None}


def _row(at: str, folder: PurePosixPath, record: Record, split: str | None) -> Row:
    path, label = _get(record, PATHS), _get(record, LABELS)
    if not isinstance(path, str) or not path.strip() or label is None or not str(label).strip():
        raise UnknownLayout(f"A picture has no path or no label: {at}.")
    relative = clean_name(path.strip())
    said = _get(record, SPLIT)
    if said is not None and str(said).strip():
        split = SPLITS.get(str(said).strip().lower())
        if split is None:
            raise UnknownLayout(f"{shown(str(said))} is no split (train, val or test): {at}.")
    return Row(clean_name(str(folder / relative)), relative, clean_label(str(label)), split)


def _has(record: Record, names: Sequence[str]) -> bool:
    return any(name in record for name in names)


def _get(record: Record, names: Sequence[str]) -> Any:
    return next((record[name] for name in names if name in record), None)
