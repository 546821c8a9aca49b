"""What clients send with HR imagery and what they get."""

import uuid
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from app.plans.schemas import AreaKm2, Money, RasterForm


class AcquisitionForm(RasterForm):
    """The fields of an acquisition beside its ``files``; they hold for all files of the request."""

    replace: bool = Field(False, description="Put new pixels in the place of received ones.")


class ReceivedPatchOut(BaseModel):
    """A patch that was taken."""

    tile: int
    patch: int
    chosen: bool = Field(description="Whether the plan had chosen it.")
    valid_fraction: float
    gsd_m: float
    area_km2: AreaKm2
    price: Money | None


class RefusedPatchOut(BaseModel):
    """A patch that was not taken from a file; tile and patch are null for a file outside every tile."""

    tile: int | None
    patch: int | None
    reason: str = Field(
        description="outside_every_tile, insufficient_valid_pixels (under 95 %), gsd_too_coarse (over 1.5 x "
        "tile / hr_px), wrong_bands, all_nodata, or already_in_this_request.",
        examples=["insufficient_valid_pixels"],
    )
    valid_fraction: float | None = None


class AcquisitionOut(BaseModel):
    """One GeoTIFF and what was taken from it."""

    id: uuid.UUID
    sha256: str = Field(description="Of the file's bytes: files are told apart by it, never by name.")
    bytes: int
    received_at: datetime
    gsd_m: float
    bands: list[int]
    scaling: dict[str, Any] | None
    warnings: list[str]
    refused: list[RefusedPatchOut]
    patches: list[ReceivedPatchOut]


ACQUISITION_EXAMPLE: dict[str, Any] = {
    "id": "0199c0de-0000-7000-8000-000000000002",
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "bytes": 151_204,
    "received_at": "2026-11-22T12:00:05Z",
    "gsd_m": 0.3,
    "bands": [1, 2, 3],
    "scaling": {"kind": "as_is", "gain": [1.0, 1.0, 1.0], "bias": [0.0, 0.0, 0.0]},
    "warnings": [],
    "patches": [
        {
            "tile": 0,
            "patch": 5,
            "chosen": True,
            "valid_fraction": 1.0,
            "gsd_m": 0.3,
            "area_km2": 0.0003686,
            "price": "0.0046075",
        }
    ],
    "refused": [{"tile": 0, "patch": 6, "reason": "insufficient_valid_pixels", "valid_fraction": 0.41}],
}


class AcquisitionsOut(BaseModel):
    """What one request brought, file by file. The same files again give the same answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "plan_id": "0199c0de-0000-7000-8000-000000000001",
                "acquisitions": [ACQUISITION_EXAMPLE],
            }
        }
    )

    plan_id: uuid.UUID
    acquisitions: list[AcquisitionOut]


class TilePatches(BaseModel):
    """Patches of one tile."""

    tile: int
    patches: list[int]


class AcquisitionList(BaseModel):
    """All files a plan has received, newest first, and the chosen patches that none of them brought."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "plan_id": "0199c0de-0000-7000-8000-000000000001",
                "acquisitions": [ACQUISITION_EXAMPLE],
                "received": [{"tile": 0, "patches": [5]}],
                "chosen_missing": [{"tile": 0, "patches": [6, 9]}],
            }
        }
    )

    plan_id: uuid.UUID
    acquisitions: list[AcquisitionOut]
    received: list[TilePatches]
    chosen_missing: list[TilePatches]
