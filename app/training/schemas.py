"""What clients send for a training run and what they get."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.plans.schemas import ProblemOut
from app.training.examples import FORM_EXAMPLE, METRIC_EXAMPLE, RUN_EXAMPLE
from app.training.states import RunStatus

StageName = Literal["hr", "lr", "pt", "ft1", "ft2"]
# a release's name: it becomes part of links and of folders
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$", max_length=100)]


class TrainingForm(BaseModel):
    """A dataset, a recipe, and what of it is to be done."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": FORM_EXAMPLE})

    name: Name = Field(description="What the release will be called; each run adds a version.")
    dataset: uuid.UUID
    recipe: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{0,99}$", description="A recipe that comes with the package."
    )
    overrides: dict[str, Any] = Field(
        default_factory=dict,
        description="Fields of the recipe that shall be others, by section: "
        "`images`, `networks`, `training`, `stages`, `classes`, `description`, `licence`.",
    )
    stages: list[StageName] | None = Field(
        None,
        min_length=1,
        max_length=5,
        description="What to train of hr, lr, pt, ft1, ft2; default: all that the recipe has epochs for. "
        "A run that does not begin with hr starts from a `parent`.",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1)
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="cuda: waits for a worker that has a GPU; auto: a GPU where the worker has one."
    )
    processes: int = Field(1, ge=1, le=64, description="Processes that share each batch (torchrun).")
    parent: str | None = Field(
        None, max_length=200, description="The release it starts from: an id, an alias or a name."
    )


class Progress(BaseModel):
    """Where the trainer is: stage, epoch and step, the share of all epochs done, seconds left."""

    model_config = ConfigDict(extra="allow")

    doing: str = Field(description="`fetching`, `preparing`, `features`, `training`, `measuring`, `saving`.")
    stage: str | None = None
    member: int | None = Field(None, description="0: the classifier to be released; others: shadows.")
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    share: float | None = None
    eta_s: float | None = None


class Checkpoint(BaseModel):
    """What the run would go on from."""

    stage: str
    member: int
    epochs: int = Field(description="Epochs of the stage that are done.")
    at: datetime


class RunOut(BaseModel):
    """A training run."""

    model_config = ConfigDict(json_schema_extra={"example": RUN_EXAMPLE})

    id: uuid.UUID
    status: RunStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    name: str
    dataset: uuid.UUID
    recipe: str
    overrides: dict[str, Any]
    stages: list[str]
    seed: int
    device: str
    processes: int
    parent: str | None
    progress: Progress | None
    notices: list[str] = Field(
        description="What was done otherwise than the recipe says, and why; what of the data makes figures "
        "flatter or intervals too narrow; pictures left out and classes that nothing is learned of."
    )
    checkpoint: Checkpoint | None
    release: uuid.UUID | None = Field(description="The release it became.")
    error: ProblemOut | None
    links: dict[str, str]


class RunPage(BaseModel):
    """A page of training runs, newest first."""

    model_config = ConfigDict(json_schema_extra={"example": {"runs": [RUN_EXAMPLE], "next": None}})

    runs: list[RunOut]
    next: str | None = Field(description="Send it as `token` for the next page; null at the end.")


class MetricOut(BaseModel):
    """One epoch of a stage."""

    stage: str
    member: int
    epoch: int
    step: int
    values: dict[str, float | None] = Field(description="null: it was not finite, the training diverged.")
    at: datetime


class MetricPage(BaseModel):
    """The curves, one point an epoch, in the order in which they were trained."""

    model_config = ConfigDict(json_schema_extra={"example": {"metrics": [METRIC_EXAMPLE], "next": None}})

    metrics: list[MetricOut]
    next: str | None
