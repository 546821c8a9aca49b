"""What clients send to move an alias, and what they get of aliases and their history."""

import uuid
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

RELEASE_ID = "0199c0de-0000-7000-8000-00000000000a"
FOLLOWING = "WyIyMDI2LTExLTIyVDEyOjAwOjAwKzAwOjAwIiwgIjAxOTljMGRlLTAwMDAtNzAwMC04MDAwLTAwMDAwMDAwMDAwMSJd"

GATE_EXAMPLE: dict[str, Any] = {
    "level": 0.05,
    "less_accurate": [],
    "more_expensive": [],
    "champion": "ucmerced",
    "candidate": RELEASE_ID,
    "dataset": "0199c0de-0000-7000-8000-00000000000d",
    "comparison": f"/v1/releases/{RELEASE_ID}/compare/ucmerced?dataset=0199c0de-0000-7000-8000-00000000000d",
    "held_out": {"n": 336, "how": "a stratified fifth held out, seed 0"},
    "seen": {"release": "no", "other": "yes", "release_images": 0, "other_images": 269},
    "accuracy": {"4": {"value": 0.01, "ci95": [-0.01, 0.03], "only_release": 9, "only_other": 6, "p": 0.6}},
    "share": {"4": {"value": -0.02, "ci95": [-0.04, 0.0], "p": 0.05}},
}

STEP_EXAMPLE: dict[str, Any] = {
    "version": 3,
    "kind": "move",
    "release": RELEASE_ID,
    "at": "2026-11-22T12:00:00Z",
    "key_id": "0199c0de-0000-7000-8000-00000000000b",
    "forced": False,
    "reason": "autumn images",
    "gate": GATE_EXAMPLE,
}

ALIAS_EXAMPLE: dict[str, Any] = {
    "name": "champion",
    "release": RELEASE_ID,
    "release_name": "harbours",
    "release_version": "3",
    "version": 3,
    "last": STEP_EXAMPLE,
}


class AliasForm(BaseModel):
    """Where an alias shall point."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"release": RELEASE_ID}})

    release: str = Field(
        min_length=1, max_length=100, description="A release's id, another alias, or an installed one's name."
    )
    force: bool = Field(
        False, description="Promote a champion past the gate; needs `reason`, and is recorded."
    )
    reason: str | None = Field(None, min_length=1, max_length=1000, description="Kept in the history.")
    dataset: uuid.UUID | None = Field(
        None, description="Data set whose held-out images the gate uses; default: the candidate's own."
    )

    @model_validator(mode="after")
    def _forced_for_a_reason(self) -> "AliasForm":
        if self.force and self.reason is None:
            raise ValueError("force needs a reason")
        if self.reason is not None and not self.reason.isprintable():
            raise ValueError("a reason has printable characters only")
        return self


class RollbackForm(BaseModel):
    """Why an alias goes back."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"reason": "too many harbours"}})

    reason: str | None = Field(None, min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")


class AliasStep(BaseModel):
    """One step of an alias's history."""

    model_config = ConfigDict(json_schema_extra={"example": STEP_EXAMPLE})

    version: int
    kind: Literal["move", "rollback", "remove"]
    release: str | None = Field(description="A release's id, or an installed one's name; null once removed.")
    at: datetime
    key_id: uuid.UUID = Field(description="The API key that did it.")
    forced: bool
    reason: str | None
    gate: dict[str, Any] | None = Field(
        description="What the gate decided on, for a champion that passed it."
    )


class AliasOut(BaseModel):
    """What an alias stands for."""

    model_config = ConfigDict(json_schema_extra={"example": ALIAS_EXAMPLE})

    name: str
    release: str = Field(description="A release's id, or an installed one's name.")
    release_name: str | None = Field(description="Null where an installed release is gone.")
    release_version: str | None
    version: int = Field(description="Counts the moves; `ETag` and `If-Match` are this in quotes.")
    last: AliasStep


class AliasPage(BaseModel):
    """A page of aliases."""

    model_config = ConfigDict(json_schema_extra={"example": {"aliases": [ALIAS_EXAMPLE], "next": None}})

    aliases: list[AliasOut]
    next: str | None = Field(description="`token` of the next page; null: there is none.")


class AliasHistory(BaseModel):
    """A page of an alias's steps, newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"steps": [STEP_EXAMPLE], "next": None}})

    steps: list[AliasStep]
    next: str | None = Field(description="`token` of the next page; null: there is none.")
