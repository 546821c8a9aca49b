"""`patchplan reproduce TABLE --data D --profile P`: the paper's tables and figures, with intervals."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.data.source import DataError
from models.data.splits import not_compared, of_few_places, published
from models.reproduce import classifiers, estimate, headline, speed
from models.reproduce.draw import draw
from models.reproduce.profiles import KINDS, NAMES
from models.reproduce.protocol import Part, Protocol
from models.reproduce.rows import ROWS
from models.reproduce.run import Keys, outdated, run
from models.reproduce.store import Store, read_table
from models.reproduce.study import Study, name_of, open_study
from models.reproduce.tables import TABLES, cells
from models.reproduce.write import page

RESULTS = Path("docs/results")
_SLICES = {"cpu": 2 * 3600.0, "gpu": 9 * 60.0}
_UNFINISHED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0; 3 where the slice ended first; 2 with a line for what the user can mend."""
    args = _arguments().parse_args(argv)
    try:
        if args.table in ("headline", "speed"):
            return _without_data(args)
        if args.data is None:
            raise ValueError(f"{args.table} needs --data")
        return _table(args)
    except (DataError, OSError, ValueError, ModuleNotFoundError) as error:
        print(f"reproduce: {error}", file=sys.stderr)
        return 2


def _without_data(args: argparse.Namespace) -> int:
    """What reads no data set; raises ValueError for options that have no say in it."""
    given = [name for name, value in vars(args).items() if value not in (None, False)]
    if idle := [f"--{name.replace('_', '-')}" for name in given if name not in ("table", "out")]:
        raise ValueError(f"{args.table} takes --out alone; {', '.join(idle)} would change nothing")
    out = args.out or RESULTS
    if args.table == "speed":
        return speed.main(["--out", str(out)])
    print(f"wrote {headline.write(out)}")
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="reproduce", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", choices=(*TABLES, "speed", "headline"), help="which table or figure")
    parser.add_argument(
        "--data", type=Path, help="any data set that `train` reads; a bare name lies in PATCHPLAN_DATA"
    )
    parser.add_argument("--profile", choices=NAMES, help="how long (default: cpu)")
    parser.add_argument(
        "--kind", choices=KINDS, help="of pictures (default: by the data set's layout and size)"
    )
    parser.add_argument("--estimate", action="store_true", help="say the hours, and train nothing")
    parser.add_argument("--parts", type=_positive, help="only the first N folds or seeds")
    parser.add_argument(
        "--part",
        type=int,
        action="append",
        metavar="K",
        help="only the fold or seed K, from 0; several times. Others may be made beside it",
    )
    parser.add_argument(
        "--limit",
        type=_positive,
        help="at most N images of each published split; 2 N in all where there is none",
    )
    parser.add_argument("--rows", help="only these rows, e.g. hr-cnn,patchdrop,ours")
    parser.add_argument("--ds", type=int, action="append", help="only this ds; several times")
    parser.add_argument("--seconds", type=float, help="end after so long; the same command goes on then")
    parser.add_argument("--hr-weights", type=Path, help="published weights for HR-CNN, not trained then")
    parser.add_argument("--out", type=Path, help=f"where pages go ({RESULTS}; smoke: out/results)")
    parser.add_argument("--work", type=Path, help="where trained parts are kept (out/reproduce)")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return int(text)


def _table(args: argparse.Namespace) -> int:
    data = _found(args.data)
    args.profile = args.profile or "cpu"
    out = args.out or (Path("out/results") if args.profile == "smoke" else RESULTS)
    name = f"{name_of(data)}-{args.limit}" if args.limit else name_of(data)
    work = (args.work or Path("out/reproduce")) / f"{name}-{args.profile}"
    seconds = _SLICES.get(args.profile) if args.seconds is None else args.seconds
    study = open_study(
        data, args.profile, work, seconds=seconds, given=args.hr_weights, limit=args.limit, kind=args.kind
    )
    wanted = cells(args.table, study.profile)
    if args.rows:
        named = [row.strip() for row in args.rows.split(",")]
        if unknown := sorted(set(named) - {row for row, _ in wanted}):
            rows = ", ".join(dict.fromkeys(row for row, _ in wanted))
            raise ValueError(f"{args.table} has no row {', '.join(unknown)}; it has {rows}")
        wanted = [cell for cell in wanted if cell[0] in named]
    if args.ds:
        wanted = [cell for cell in wanted if cell[1] in args.ds]
    if not wanted:
        raise ValueError(f"{args.table} has no such rows at ds {', '.join(map(str, args.ds))}")
    parts = _chosen(study.protocol, args.parts, args.part)
    if args.hr_weights:
        classifiers.given_hr(study, 0)  # what does not fit is told before hours of work
    if args.estimate:
        _say(estimate.hours(study, wanted, parts))
        return 0
    out.mkdir(parents=True, exist_ok=True)  # where that cannot be is told before hours of work
    if not os.access(out, os.W_OK):
        raise PermissionError(f"{out} cannot be written to")
    study = replace(study, name=_page_of(study, out))
    store = Store(out / f"{args.table}-{study.name}.json", _head(args, data, study), ROWS)
    keys: Keys = {}
    store.judge = lambda: outdated(study, store, keys)
    finished = run(study, wanted, store, parts)
    store.save(lambda: _write(args.table, store, study, out))
    if not finished:
        print("The time of this slice is used. The same command goes on where it stopped.")
        return _UNFINISHED
    return 0


def _chosen(known: Protocol, first: int | None, numbers: list[int] | None) -> tuple[Part, ...]:
    """The parts asked for. Raises ValueError."""
    if numbers is None:
        return known.parts[:first]
    if first is not None:
        raise ValueError("--parts takes the first ones and --part those that it names: one of the two")
    if unknown := sorted(set(numbers) - {part.number for part in known.parts}):
        last = len(known.parts) - 1
        raise ValueError(f"there is no part {', '.join(map(str, unknown))}: they are 0 to {last}")
    return tuple(part for part in known.parts if part.number in numbers)


def _page_of(study: Study, out: Path) -> str:
    """What pages of these images are called: by their hash too where tables of others have the name."""
    for file in (out / f"{table}-{study.name}.json" for table in TABLES):
        if file.exists() and read_table(file)[0].get("data_sha256") != study.digest:
            name = f"{study.name}-{study.digest[:8]}"
            print(f"{file} is of other images: the pages of these are called {name}", flush=True)
            return name
    return study.name


def _write(table: str, store: Store, study: Study, out: Path) -> None:
    name = f"{table}-{study.name}"
    text = page(store, table)
    if TABLES[table].picture and store.records:
        draw(table, store, study.images, out / f"{name}.png")
        place = f"{name}.png" if re.fullmatch(r"[\w.-]+", name) else f"<{name}.png>"
        text = text.replace("\n\n", f"\n\n![{TABLES[table].title}]({place})\n\n", 1)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    print(f"wrote {out / name}.md")


def _head(args: argparse.Namespace, data: Path, study: Study) -> dict[str, Any]:
    told = ["patchplan", "reproduce", args.table, "--data", name_of(data), "--profile", args.profile]
    if args.kind:
        told += ["--kind", args.kind]
    if args.limit:
        told += ["--limit", str(args.limit)]
    if args.hr_weights:
        told += ["--hr-weights", args.hr_weights.name]
    return {
        "command": shlex.join(told),
        "data": study.name,
        "data_sha256": study.digest,
        "images": len(study.labels),
        "classes": len(np.unique(study.labels.numpy())),
        "protocol": study.protocol.said + (f", of {_limited(args.limit, study)}" if args.limit else ""),
        "parts": len(study.protocol.parts),
        **_caveats(study),
    }


def _caveats(study: Study) -> dict[str, str]:
    """What was left out of the data set, and what no part can know."""
    found = {}
    if study.source.skipped:
        found["left_out"] = f"Left out of the data set: {study.source.skipped}."
    labels, parts = study.labels.numpy(), study.protocol.parts
    held_out = [part.tests for part in parts]
    if said := [*not_compared(study.source), *of_few_places(study.source, held_out)]:
        found["caveats"] = " ".join(f"{text[0].upper()}{text[1:]}." for text in said)
    unknown = sum(int((~np.isin(labels[part.tests], labels[part.learns])).sum()) for part in parts)
    if unknown:
        every = sum(len(part.tests) for part in parts)
        found["unlearned"] = (
            f"**{unknown} of the {every} held-out images of all parts are of classes that their part does "
            "not learn from: no row can be right about these.**"
        )
    return found


def _limited(limit: int, study: Study) -> str:
    return f"at most {limit} images each" if published(study.source) else f"at most {2 * limit} images in all"


def _found(data: Path) -> Path:
    """The path itself, or what has that name, with or without its ending, in PATCHPLAN_DATA."""
    if data.exists():
        return data
    if data.is_absolute():
        raise ValueError(f"there is no {data}")
    folder = Path(os.environ.get("PATCHPLAN_DATA", "../shared/data"))
    for ending in ("", ".tar", ".zip", ".npz", ".tar.gz", ".tgz"):
        if (found := folder / f"{data}{ending}").exists():
            return found
    raise ValueError(f"there is no {data}, here or in {folder}")


def _say(found: dict[str, float]) -> None:
    for unit, hours in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{unit:>10}  {hours:8.2f} h")
    print(f"{'together':>10}  {sum(found.values()):8.2f} h on this machine, if nothing else runs")
