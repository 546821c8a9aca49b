"""What clients send for a dataset and what they get."""

import json
import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from app.core.work import WorkStatus
from app.labels.names import printable
from app.plans.schemas import ProblemOut

Text = Annotated[str, AfterValidator(printable)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _read_classes(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value) if value.lstrip().startswith("[") else value.split(",")
        except (ValueError, RecursionError):
            raise ValueError("classes must be a JSON list of strings, or names separated by commas") from None
    return value


Classes = Annotated[
    list[Annotated[Text, Field(min_length=1, max_length=200)]],
    Field(min_length=2, max_length=10_000),
    BeforeValidator(_read_classes),
]


class DatasetOptions(BaseModel):
    """What is asked of the pictures; a reading that finds something else fails and says what."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = Field(
        None,
        description="For people, and in cards of releases; default: made of the file's or folder's name.",
    )
    classes: Classes | None = Field(
        None,
        description="The classes there have to be, no more and no fewer: a JSON list, or names separated by "
        "commas. Default: those that are found.",
        examples=[["forest", "harbor"]],
    )
    max_unreadable: int | None = Field(
        None, ge=0, description="Pictures that may be unreadable; they are listed. Default: 1 %, at least 3."
    )
    max_leaks: int = Field(0, ge=0, description="Held-out pictures that may be in another split as well.")
    mixed_bands: bool = Field(False, description="Whether pictures may differ in their number of bands.")


class DatasetForm(DatasetOptions):
    """The fields of an upload beside its ``archive``."""


class FromTiles(BaseModel):
    """Which plans' labelled tiles make a dataset: those named, or all with these tags."""

    model_config = ConfigDict(extra="forbid")

    plans: Annotated[list[uuid.UUID], Field(min_length=1, max_length=1000)] | None = None
    tags: Annotated[dict[Text, Text], Field(min_length=1, max_length=32)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "FromTiles":
        if (self.plans is None) == (self.tags is None):
            raise ValueError("give either plans or tags")
        return self


class DatasetRequest(DatasetOptions):
    """A dataset that is not uploaded: read from an address, or made of labelled tiles."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    uri: Text | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="A folder, archive, CSV or GeoJSON on the server, or an object-store URL; the server's "
        "operator says which may be read.",
        examples=["/data/imagery/harbors"],
    )
    from_: FromTiles | None = Field(None, alias="from", description="Labelled tiles whose HR is complete.")

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetRequest":
        if (self.uri is None) == (self.from_ is None):
            raise ValueError("give either uri or from")
        return self


class ClassCount(BaseModel):
    """A class and its pictures."""

    name: str
    pictures: int
    splits: dict[str, int]


class Sizes(BaseModel):
    """Width and height in pixels."""

    min: list[int]
    median: list[int]
    max: list[int]
    distinct: int


class Spread(BaseModel):
    """Of the pictures that say it."""

    min: float
    median: float
    max: float
    pictures: int


class Unreadable(BaseModel):
    """A picture that cannot be decoded."""

    name: str
    reason: str


class UnreadableOut(BaseModel):
    """Pictures that cannot be decoded and are not in the snapshot; the first 100 of them."""

    pictures: int
    listed: list[Unreadable]


class DuplicateGroup(BaseModel):
    """Pictures that show the same: to the pixel (``exact``), or nearly."""

    pictures: list[str]
    exact: bool
    classes: list[str]
    splits: list[str]


class Duplicates(BaseModel):
    """Groups of pictures that show the same; the first 100, those across splits and classes first."""

    compared: Literal["exactly and nearly", "exactly"]
    groups: int
    pictures: int
    across_splits: int
    of_several_classes: int
    listed: list[DuplicateGroup]


class Inventory(BaseModel):
    """What was found when the pictures were read."""

    classes: list[ClassCount]
    splits: dict[str, int] | None = Field(description="Declared splits; null where there are none.")
    sizes: Sizes
    bands: dict[str, int] = Field(description="Pictures by their number of bands.")
    types: dict[str, int] = Field(description="Pictures by the type of their pixels.")
    gsd_m: Spread | None = Field(description="Metres a pixel, where georeferenced or told by fMoW's JSON.")
    bytes: int
    unreadable: UnreadableOut
    ignored: dict[str, int] = Field(description="Files that were passed over, by reason.")
    duplicates: Duplicates


class DatasetSummary(BaseModel):
    """A dataset as lists hold it."""

    id: uuid.UUID
    name: str
    status: WorkStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    origin: Literal["upload", "uri", "tiles"]
    source: dict[str, Any] = Field(description="What it was read from.")
    form: Literal["folders", "fmow", "table", "tiles"] | None
    content_sha256: str | None = Field(description="Of the snapshot: the same content has the same.")
    snapshot_bytes: int | None
    classes: list[str]
    pictures: int | None
    train: int | None
    val: int | None
    test: int | None
    warnings: list[str] = Field(examples=[["unreadable_pictures"]])
    error: ProblemOut | None = Field(description="Present if it failed: why it cannot be used.")
    links: dict[str, str]


class DatasetOut(DatasetSummary):
    """A dataset and its inventory, which is null until it is ready."""

    inventory: Inventory | None


class DatasetPage(BaseModel):
    """Datasets, newest first, and the token of the next page (null on the last)."""

    datasets: list[DatasetSummary]
    next: str | None


class PictureOut(BaseModel):
    """One picture of a snapshot, or one that could not be read (then only ``unreadable`` is more)."""

    model_config = ConfigDict(populate_by_name=True)

    picture: str = Field(description="Its name in the snapshot.")
    class_: str | None = Field(None, alias="class")
    split: str | None = None
    width: int | None = None
    height: int | None = None
    bands: int | None = None
    type: str | None = None
    gsd_m: float | None = None
    bytes: int | None = None
    sha256: str | None = None
    unreadable: str | None = None


class PicturePage(BaseModel):
    """Pictures in the order of their names, then the unreadable ones."""

    pictures: list[PictureOut]
    next: str | None
