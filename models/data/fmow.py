"""functional Map of the World: one sample a labelled box, cut out of its picture with the customary context.

Layout: `[SPLIT/]CLASS/CLASS_SEQUENCE/CLASS_SEQUENCE_FRAME_rgb.jpg` with a JSON of the same stem beside it.
`test/` and `seq/` were published without labels; their ground truth, where it is there, is joined to them.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from models.data import pixels
from models.data.files import Files
from models.data.folders import SPLITS
from models.data.source import DataError, Pixels, Skipped, Source, UnreadableImageError

CLASSES = (
    "airport", "airport_hangar", "airport_terminal", "amusement_park", "aquaculture", "archaeological_site",
    "barn", "border_checkpoint", "burial_site", "car_dealership", "construction_site", "crop_field", "dam",
    "debris_or_rubble", "educational_institution", "electric_substation", "factory_or_powerplant",
    "fire_station", "flooded_road", "fountain", "gas_station", "golf_course", "ground_transportation_station",
    "helipad", "hospital", "impoverished_settlement", "interchange", "lake_or_pond", "lighthouse",
    "military_facility", "multi-unit_residential", "nuclear_powerplant", "office_building",
    "oil_or_gas_facility", "park", "parking_lot_or_garage", "place_of_worship", "police_station", "port",
    "prison", "race_track", "railway_bridge", "recreational_facility", "road_bridge", "runway", "shipyard",
    "shopping_mall", "single-unit_residential", "smokestack", "solar_farm", "space_facility", "stadium",
    "storage_tank", "surface_mine", "swimming_pool", "toll_booth", "tower", "tunnel_opening",
    "waste_disposal", "water_treatment_facility", "wind_farm", "zoo",
)  # fmt: skip
"""The 62 classes in label order."""

CONTEXT = ((0.1, 2.0), (0.2, 1.0), (0.3, 0.5), (0.4, 0.3), (0.5, 0.2), (math.inf, 0.15))
"""(upper end of the box's share of the image, share of the box added as context)."""

SMALLEST_BOX = 2
"""Boxes of this many pixels or fewer in width or height are skipped."""

_NUMBER = {name: k for k, name in enumerate(CLASSES)}
_SPLITS = {**SPLITS, "seq": "seq"}
_MAPPING = re.compile(r"(^|/)(test|seq)_gt_mapping\.json$")
_PICTURE = re.compile(r"_rgb\.(jpe?g|png|tiff?)$", re.IGNORECASE)
# the last two: whole numbers beyond any float, lists in lists without end
_NOT_READ = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


@dataclass(frozen=True)
class Box:
    """A labelled rectangle in pixels of its picture."""

    name: str
    """File of the picture."""
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class _Sample:
    """A box as its JSON has it."""

    id: str
    category: str | None
    identity: object
    box: Box


def context_share(share: float) -> float:
    """How much of a box's width (or height) is added around it, given its share of the image's."""
    return next(added for upper, added in CONTEXT if share < upper)


def crop_window(box: Box, image_width: int, image_height: int) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in pixels: the box and its context, half on each side, clipped."""
    around_x = int(box.width * context_share(box.width / image_width) / 2)
    around_y = int(box.height * context_share(box.height / image_height) / 2)
    left, top = max(0, int(box.left) - around_x), max(0, int(box.top) - around_y)
    right = min(image_width, int(box.left + box.width) + around_x)
    bottom = min(image_height, int(box.top + box.height) + around_y)
    return left, top, right, bottom


class BoxReader:
    """Cuts each sample's window out of its picture."""

    def __init__(self, files: Files, boxes: list[Box]) -> None:
        self.files = files
        self.boxes = boxes

    def pixels(self, i: int) -> Pixels:
        box = self.boxes[i]
        picture = pixels.decode(self.files.read(box.name))
        # The picture's own size, not the JSON's: the two are not always equal.
        height, width = picture.shape[:2]
        left, top, right, bottom = crop_window(box, width, height)
        if right <= left or bottom <= top:
            raise UnreadableImageError(f"box {box} lies outside its {width}x{height} picture")
        return picture[top:bottom, left:right].copy()

    def content(self, i: int) -> bytes:
        return self.files.read(self.boxes[i].name) + _corners(self.boxes[i]).encode()

    def stamp(self, i: int) -> str:
        return self.files.stamp(self.boxes[i].name) + _corners(self.boxes[i])


def _corners(box: Box) -> str:
    return json.dumps([box.left, box.top, box.width, box.height])


def is_fmow(files: Files) -> bool:
    """True where some `_rgb` picture has its JSON beside it."""
    names = set(files.names)
    return any(_PICTURE.sub("_rgb.json", n) in names for n in files.names if _PICTURE.search(n))


def open_fmow(name: str, files: Files) -> Source:
    """A Source with one sample for each box of the 62 classes; classes are always all 62.

    Left out and counted: boxes without category (as in the published test), `false_detection`, boxes of 2 px
    or less, boxes of the ID -1 (the ground truth's whole scenes), pictures without JSON, `_msrgb` renderings.
    A JSON that cannot be parsed is listed as unreadable.
    Raises DataError where no labelled box is found or a category is unknown.
    """
    names, truth = set(files.names), _ground_truth(files)
    counts: Counter[str] = Counter()
    unreadable: list[tuple[str, str]] = []
    samples: list[_Sample] = []
    for picture in (n for n in files.names if _PICTURE.search(n)):
        described = _description(picture, truth, names)
        if described not in names:
            counts["pictures without JSON"] += 1
            continue
        try:
            found = list(_boxes(picture, files.read(described)))
        except (*_NOT_READ, UnreadableImageError) as error:
            unreadable.append((described, str(error)))
            continue
        samples += _wanted(found, counts)
    counts["_msrgb pictures"] = sum("_msrgb." in n and not n.endswith(".json") for n in files.names)
    skipped = Skipped(tuple(unreadable), {reason: n for reason, n in counts.items() if n})
    if not samples:
        raise DataError(f"{name}: no labelled box in this fMoW tree ({skipped})")
    splits = [_split(s.box.name) for s in samples]
    return Source(
        name,
        CLASSES,
        [_label(s) for s in samples],
        [s.id for s in samples],
        BoxReader(files, [s.box for s in samples]),
        splits=splits if all(splits) else None,
        places=[PurePosixPath(s.box.name).parent.as_posix() for s in samples],
        skipped=skipped,
    )


def _ground_truth(files: Files) -> dict[str, str]:
    """Folder of unlabelled pictures -> folder of their labelled JSON, by `{test,seq}_gt_mapping.json`.

    The mapping's paths start at the data set's root, or at its `groundtruth/` for the JSON.
    """
    folders = {str(PurePosixPath(name).parent) for name in files.names}
    truth: dict[str, str] = {}
    for mapping in filter(_MAPPING.search, files.names):
        try:
            pairs = [(str(entry["input"]), str(entry["output"])) for entry in json.loads(files.read(mapping))]
        except _NOT_READ as error:
            raise DataError(f"{mapping} is no list of input and output folders: {error}") from error
        base = PurePosixPath(mapping).parent
        for labelled, pictures in pairs:
            for root in (base, base.parent):
                if str(root / pictures) in folders:
                    truth[str(root / pictures)] = str(base / labelled)
    return truth


def _description(picture: str, truth: dict[str, str], names: set[str]) -> str:
    """The JSON that labels a picture: its ground truth where there is one, else the one beside it."""
    path = PurePosixPath(picture)
    beside = _PICTURE.sub("_rgb.json", picture)
    if labelled := truth.get(str(path.parent)):
        folder = PurePosixPath(labelled)
        frame = PurePosixPath(beside).name.removeprefix(path.parent.name)
        if (known := str(folder / f"{folder.name}{frame}")) in names:
            return known
    return beside


def _boxes(picture: str, data: bytes) -> Iterator[_Sample]:
    described: Any = json.loads(data)
    listed = described["bounding_boxes"]
    entries = [listed] if isinstance(listed, dict) else listed
    for serial, entry in enumerate(entries):
        left, top, width, height = (float(v) for v in entry["box"])
        if not all(map(math.isfinite, (left, top, width, height))):
            raise ValueError(f"a box that is not finite: {entry['box']}")
        name = picture if len(entries) == 1 else f"{picture}#{serial}"
        category = None if entry.get("category") is None else str(entry["category"])
        yield _Sample(name, category, entry.get("ID"), Box(picture, left, top, width, height))


def _wanted(found: list[_Sample], counts: Counter[str]) -> Iterator[_Sample]:
    """The samples to train on; the others are counted by reason."""
    for sample in found:
        if sample.identity == -1:
            counts["boxes of the ID -1"] += 1
        elif sample.category is None:
            counts["boxes without category"] += 1
        elif sample.category == "false_detection":
            counts["boxes of false_detection"] += 1
        elif min(sample.box.width, sample.box.height) <= SMALLEST_BOX:
            counts[f"boxes of {SMALLEST_BOX} px or less"] += 1
        else:
            yield sample


def _label(sample: _Sample) -> int:
    if sample.category not in _NUMBER:
        raise DataError(f"{sample.id}: {sample.category!r} is none of the 62 classes of fMoW")
    return _NUMBER[sample.category]


def _split(name: str) -> str:
    for part in PurePosixPath(name).parts[:-1]:
        if part.lower() in _SPLITS:
            return _SPLITS[part.lower()]
    return ""
