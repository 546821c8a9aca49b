"""Finished rows: one JSON a table and data set, from which every figure can be computed again."""

import fcntl
import glob
import json
import os
import platform
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from models.job import processor
from models.precision import best_device, has_fast_bf16
from models.provenance import commit
from models.reproduce.answers import Kept

Json = dict[str, Any]
Identity = tuple[str, str, int, int, str]


@dataclass(frozen=True)
class Record:
    """One stage of a row on one part of the data at one ds: what was answered, and how it came about."""

    row: str
    stage: str
    ds: int
    part: int
    profile: str
    key: str
    kept: Kept
    told: Json

    def to_json(self) -> Json:
        named = {n: getattr(self, n) for n in ("row", "stage", "ds", "part", "profile", "key")}
        return {**named, "told": self.told, "answers": self.kept.to_json()}

    @property
    def identity(self) -> Identity:
        """What there is one of."""
        return self.row, self.stage, self.ds, self.part, self.profile

    @classmethod
    def from_json(cls, raw: Json) -> "Record":
        kept = Kept.from_json(raw["answers"])
        named = {n: raw[n] for n in ("row", "stage", "ds", "part", "profile", "key")}
        return cls(**named, kept=kept, told=raw["told"])


def read_table(file: Path) -> tuple[Json, list[Json]]:
    """The head and the records of a table's file. Raises ValueError where it is none, OSError."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        head, records = told["head"], told["records"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no table that this command wrote: mend it or take it away") from error
    if not isinstance(head, dict) or not isinstance(records, list):
        raise ValueError(f"{file} is no table that this command wrote: mend it or take it away")
    return head, records


class Store:
    """The records of `file`, and of other tables of the same data set that lie beside it.

    Records of other pictures under the same name are left out, and those of rows that are not among `rows`;
    they are gone when the file is next written. Several processes may add to one file at a time.
    """

    def __init__(self, file: Path, head: Json, rows: Collection[str] | None = None) -> None:
        self.file, self.head, self._rows = file, head, rows
        self.records = self._read(file)
        self._new: dict[Identity, Record] = {}
        self._beside: list[Record] | None = None
        self.judge: Callable[[], list[tuple[str, int, str]]] | None = None
        """Says at every writing which rows are `outdated`; the head keeps it."""

    def find(self, row: str, ds: int, part: int, key: str, stages: tuple[str, ...]) -> list[Record]:
        """All stages of a row that has these and so is finished, these first; or nothing."""
        for records in (self.records, self._neighbours):
            found = {r.stage: r for r in records if (r.row, r.ds, r.part, r.key) == (row, ds, part, key)}
            if set(stages) <= set(found):
                return [*(found.pop(stage) for stage in stages), *found.values()]
        return []

    def add(self, records: list[Record]) -> None:
        """Keep them, in place of what the same row said before with other settings of this profile."""
        self._new |= {record.identity: record for record in records}
        self.save()

    def save(self, then: Callable[[], None] | None = None) -> None:
        """Write the file, whole or not at all, with what others have added to it since.

        `then` makes of it what no other process may make meanwhile.
        """
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            there = {record.identity: record for record in self._read(self.file)}
            self.records = list((there | self._new).values())
            if self.judge is not None:
                self.head["outdated"] = self.judge()
            self._write()
            if then is not None:
                then()
        finally:
            os.close(folder)

    def _write(self) -> None:
        lines = ",\n".join(json.dumps(r.to_json(), sort_keys=True) for r in self._ordered())
        text = f'{{"head": {json.dumps(self.head, sort_keys=True)},\n"records": [\n{lines}\n]}}\n'
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.file)

    def _ordered(self) -> list[Record]:
        return sorted(self.records, key=lambda r: (r.ds, r.row, r.stage, r.profile, r.part))

    @property
    def _neighbours(self) -> list[Record]:
        if self._beside is None:
            name = self.file.name.partition("-")[2]
            others = (f for f in self.file.parent.glob(f"*-{glob.escape(name)}") if f != self.file)
            self._beside = [record for file in sorted(others) for record in self._read_beside(file)]
        return self._beside

    def _read_beside(self, file: Path) -> list[Record]:
        try:
            return self._read(file)
        except ValueError as error:
            print(error, flush=True)
            return []

    def _read(self, file: Path) -> list[Record]:
        if not file.exists():
            return []
        head, records = read_table(file)
        if head.get("data_sha256") != self.head.get("data_sha256"):
            return []
        known = [raw for raw in records if self._rows is None or raw["row"] in self._rows]
        return [Record.from_json(raw) for raw in known]


def circumstances() -> Json:
    """Where and with what a row was made."""
    fast = has_fast_bf16(best_device())
    return {
        "commit": commit(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "python": platform.python_version(),
        "on": datetime.now(UTC).date().isoformat(),
        "precision": f"trained in {'bf16' if fast else 'fp32'}, measured in fp32",
    }
