"""The trainer's process: ``python -m workers.trainer SPEC`` fetches what a run needs and trains.

Whatever it does, it may be killed at any moment: its supervisor holds the row, and writes.
"""

import json
import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.parent import die_with_parent

if TYPE_CHECKING:
    from models.events import Events

AWAY = 5
"""Exit status: the store or the database did not answer while the run's data was fetched. It may pass."""

NO_CHECKPOINT = "The run's last checkpoint is not in the object store; the run starts from the beginning."


@dataclass(frozen=True)
class Spec:
    """What a supervisor tells its trainer: whose child it is, which run, and its folder."""

    parent: int
    run_id: str
    folder: str

    @property
    def work(self) -> Path:
        """Checkpoints and caches."""
        return Path(self.folder) / "work"

    @property
    def checkpoint(self) -> Path:
        """The trainer's own name for it."""
        return self.work / "release.checkpoint"

    @property
    def events(self) -> Path:
        """What the supervisor reads."""
        return Path(self.folder) / "events.jsonl"

    @property
    def out(self) -> Path:
        """The folder the release is written to."""
        return Path(self.folder) / "out"


def main(argv: list[str]) -> int:
    """Train; the exit status is that of ``models.train``, or AWAY."""
    spec = Spec(**json.loads(Path(argv[0]).read_text()))
    # first, as loading torch takes seconds in which our supervisor may be killed
    die_with_parent(spec.parent, sys.stdin.fileno())
    from obstore.exceptions import BaseError as StoreError

    from app.core.db import DATABASE_LOST
    from app.core.errors import ProblemError
    from models.disk import is_full
    from models.events import Events
    from models.train import FULL, USER
    from models.train import main as train

    events = Events(spec.events)
    try:
        events.say("doing", doing="fetching", share=0.0)
        arguments = _prepare(spec, events)
    except ProblemError as problem:
        events.say("failed", problem="refused", document=problem.document())
        return USER
    except (OSError, StoreError, *DATABASE_LOST) as error:
        print(f"trainer: {error!r}", file=sys.stderr)
        if is_full(error):
            return FULL
        if not isinstance(error, (StoreError, ConnectionError, TimeoutError, *DATABASE_LOST)):
            raise  # of this machine's own files: it does not pass
        return AWAY
    return train(arguments)


def _prepare(spec: Spec, events: "Events") -> list[str]:
    """Fetch dataset, parent and checkpoint; the words for ``patchplan train``.

    Raises NotFound, Conflict, DatasetLost and ReleaseLost, where the dataset or the parent is not to be had.
    """
    import app.core.tables  # noqa: F401 - every table, or foreign keys do not resolve
    from app.core.db import dispose_engine, session_scope
    from app.core.store import get_store
    from app.training.tables import TrainingRun
    from workers import snapshots

    with session_scope() as session:
        row = session.get_one(TrainingRun, uuid.UUID(spec.run_id))
    folder = Path(spec.folder)
    data = snapshots.fetch(row.dataset_id, folder / "data")
    spec.work.mkdir(parents=True, exist_ok=True)
    if row.checkpoint_key is not None:
        try:
            get_store().get_to_file(row.checkpoint_key, spec.checkpoint)
        except KeyError:
            # an earlier try may have left its own here
            if not spec.checkpoint.exists():
                events.say("notice", text=NO_CHECKPOINT)
    recipe = folder / f"{row.recipe_name}.json"
    recipe.write_text(json.dumps(row.recipe))
    words: list[Any] = ["--recipe", recipe, "--data", data, "--out", spec.out / row.name]
    words += ["--seed", row.seed, "--device", row.device, "--processes", row.processes]
    words += ["--work", spec.work, "--events", spec.events]
    if row.parent is not None:
        words += ["--parent", _parent(row.parent, row.parent_weights_sha256, folder)]
    dispose_engine()
    if row.processes > 1:
        threads = max(1, (os.cpu_count() or 1) // row.processes)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    return [str(word) for word in words]


def _parent(key: str, weights_sha256: str | None, folder: Path) -> Path:
    """The folder of the release to start from. Raises ReleaseLost, Conflict, ServiceUnavailable."""
    from app.core.db import session_scope
    from app.core.errors import Conflict, ServiceUnavailable
    from app.core.store import get_store
    from app.releases.lost import release_lost
    from app.releases.service import get_card, release_folder
    from app.releases.tables import ReleaseRow
    from models.card import CARD_FILE, WEIGHTS_FILE

    try:
        release_id = uuid.UUID(key)
    except ValueError:
        if get_card(key).weights_sha256 != weights_sha256:
            raise Conflict(f"The release {key} was replaced after this run was asked for.") from None
        return release_folder(key)
    with session_scope() as session:
        row = session.get(ReleaseRow, release_id)
    if row is None:
        raise ServiceUnavailable(f"The release {key} is gone.")
    parent = folder / "parent" / row.name
    parent.mkdir(parents=True, exist_ok=True)
    try:
        get_store().get_to_file(f"{row.folder_key}/{WEIGHTS_FILE}", parent / WEIGHTS_FILE)
    except KeyError:
        raise release_lost(row, "no longer has the weights") from None
    (parent / CARD_FILE).write_text(row.card, encoding="utf-8")
    return parent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
