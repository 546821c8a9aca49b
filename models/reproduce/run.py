"""Make the rows of a table that are not there yet, one part of the data after the other."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from models.precision import exact
from models.recipe import POLICYS_OWN
from models.reproduce import classifiers
from models.reproduce.bench import Bench
from models.reproduce.profiles import load_profile
from models.reproduce.protocol import Part
from models.reproduce.rows import ROWS, Place, Row
from models.reproduce.slices import SliceOver
from models.reproduce.store import Record, Store, circumstances
from models.reproduce.study import IMAGENET, Study, images_at
from models.reproduce.tables import Cell

Places = dict[tuple[int, int], Place]
Keys = dict[tuple[str, str, int, int], str]
"""The `row_key` of a profile's row at a ds and part."""

MEASURED = ("gain", "ece", "ece_eq7")
"""Figures that were measured of a row's probabilities, which records do not keep."""


def run(study: Study, cells: list[Cell], store: Store, parts: Sequence[Part] | None = None) -> bool:
    """Every row on every part (or on `parts`); True where all are there, False where the slice ended.

    A finished row in the store, or in another table's beside it, is not made again.
    """
    for part in study.protocol.parts if parts is None else parts:
        places: Places = {}
        for name, ds in cells:
            # what the other ds were told is done with
            places = {at: place for at, place in places.items() if at[1] == ds}
            try:
                with exact():  # training has bf16 wherever there is TF32
                    _row(study, part, name, ds, store, places)
            except SliceOver:
                return False
            torch.clear_autocast_cache()
    return True


def row_key(study: Study, name: str, ds: int, part: Part) -> str:
    """The hash of all that has a say in a row: data, split, seed, networks, the schedules it depends on."""
    row, profile = ROWS[name], study.profile
    if row.made_of is not None:
        return study.key(name, [row_key(study, other, ds, part) for other in row.made_of(study)])
    recipe = profile.paper
    stages = {unit: recipe.stages[unit].told() for unit in row.units if unit in recipe.stages}
    for unit in row.reads:
        stages[unit] = {name: recipe.stages[unit].told()[name] for name in ("sigma", "alpha")}
    units = {unit: asdict(profile.plan(unit)) for unit in row.units if unit not in recipe.stages}
    onward = classifiers.masked_epochs(study) if "masked" in units else 0
    recipes = [recipe, profile.ours] if "masked" in row.units else [recipe]
    depends: list[Any] = [stages, units, onward]
    for one in recipes:
        training = asdict(one.training)
        if "ours" not in row.units and one is profile.ours:
            del training["fusion"], training["missed_cost"]  # of what comes after the classifiers
        networks = one.networks.told()
        if "ours" not in row.units:
            for field in POLICYS_OWN:
                networks.pop(field, None)
        # at another ds than the recipe's the pictures can be others too
        images = one.images if ds in one.images.ds else images_at(one.images, ds)
        depends += [asdict(images), networks, training]
    if row.views and "masked" not in row.units:
        depends.append(profile.ours.networks.hr_views)
    if "masked" in row.units and (masking := profile.masking_told()):
        depends.append(masking)
    if "ours" in row.units and not study.protocol.folds:
        together = study.protocol.groups[part.learns]
        if len(np.unique(together)) < len(together):  # they say which images its judge may learn from
            depends.append(together.tolist())
        if (judges := classifiers.judges_of(len(part.learns))) > 1:
            depends.append({"judges": judges})
    if "ours" in row.units:
        depends.append(profile.ours.stages["ft2"].told())
    whole = (name, ds, part.seed, part.learns.tolist(), part.tests.tolist(), depends)
    return study.key(*whole, study.given_sha256)


def outdated(study: Study, store: Store, known: Keys | None = None) -> list[tuple[str, int, str]]:
    """Row, ds and profile of what has a part in the store that would now be made with other settings.

    Profiles of fewer images have parts of their own, and are judged by their own runs only. `known` keeps the
    keys from one call to the next: each reads the numbers of all images, of ImageNet for half a second.
    """
    known = {} if known is None else known
    parts, found = {part.number: part for part in study.protocol.parts}, set()
    for name in {r.profile for r in store.records}:
        profile = study.profile if name == study.profile.name else load_profile(study.profile.kind, name)
        if profile.limit != study.profile.limit:
            continue
        if study.given is not None and profile is not study.profile:
            profile = profile.normalised(*IMAGENET)
        here = replace(study, profile=profile)
        records = [r for r in store.records if r.profile == name]
        # one key for all stages of a row: each reads the numbers of all images
        cells = {(r.row, r.ds, r.part) for r in records if r.part in parts}
        for row, ds, part in cells:
            if (name, row, ds, part) not in known:
                known[name, row, ds, part] = row_key(here, row, ds, parts[part])
        found |= {(r.row, r.ds, name) for r in records if r.key != known.get((name, r.row, r.ds, r.part))}
    return sorted(found)


def _row(study: Study, part: Part, name: str, ds: int, store: Store, places: Places) -> list[Record]:
    row, key = ROWS[name], row_key(study, name, ds, part)
    if found := store.find(name, ds, part.number, key, row.finished):
        store.add(found)
        return found
    if found := _at_another_ds(study, part, name, ds, store):
        store.add(found)
        return found
    if row.run is None:
        return _joined(study, part, name, ds, store, places)
    place = places.setdefault((part.number, ds), Place(Bench(study, part, ds)))
    if row.needs_s and not place.s:
        first = _row(study, part, "patchdrop", ds, store, places)
        place.s = {record.stage: float(record.kept.s.mean()) for record in first}
    print(f"{study.name} part {part.number} ds {ds}: {row.title}", flush=True)
    started, place.figures = time.monotonic(), {}
    told = row.run(place)
    labels = study.labels.numpy()[part.tests]
    epochs = {unit: classifiers.epochs_of(study, unit) for unit in row.units}
    facts = {
        "seed": part.seed,
        "seconds": round(time.monotonic() - started, 1),
        "epochs": epochs,
        "of_the_papers": {unit: round(n / study.profile.paper_epochs[unit], 4) for unit, n in epochs.items()},
        **circumstances(),
    }
    records = [
        Record(
            name,
            stage,
            ds,
            part.number,
            study.profile.name,
            key,
            answers.kept(labels, part.tests),
            {**facts, **(place.figures if stage == row.stages[0] else {})},
        )
        for stage, answers in told.items()
    ]
    store.add(records)
    _say(records, row)
    return records


def _at_another_ds(study: Study, part: Part, name: str, ds: int, store: Store) -> list[Record]:
    """What a row that reads no LR image said at another ds of the same classifiers: the same."""
    row, key, learned = ROWS[name], row_key(study, name, ds, part), study.profile.paper.images.ds
    if not row.blind or ds not in learned:
        return []
    for other in learned:
        found = store.find(name, other, part.number, row_key(study, name, other, part), row.finished)
        if found:
            # what is found may have been taken from yet another ds
            at = [r.told.get("measured_at_ds", other) for r in found]
            return [
                replace(r, ds=ds, key=key, told=r.told | {"measured_at_ds": k})
                for r, k in zip(found, at, strict=True)
            ]
    return []


def _joined(study: Study, part: Part, name: str, ds: int, store: Store, places: Places) -> list[Record]:
    """A row that is made of two others, which are made first where they are not there."""
    row, key = ROWS[name], row_key(study, name, ds, part)
    assert row.made_of is not None
    first, second = (_row(study, part, other, ds, store, places) for other in row.made_of(study))
    records = [
        replace(
            record,
            row=name,
            key=key,
            kept=record.kept.whole_by(second[0].kept),
            told={k: v for k, v in record.told.items() if k not in MEASURED}
            | {"made_of": {r.row: r.key for r in (record, second[0])}},
        )
        for record in first
    ]
    print(f"{study.name} part {part.number} ds {ds}: {row.title}", flush=True)
    store.add(records)
    _say(records, row)
    return records


def _say(records: list[Record], row: Row) -> None:
    for record in records:
        share, s = float(record.kept.right.mean()), float(record.kept.s.mean())
        print(f"  {row.title} {record.stage}: {100 * share:.2f} % at S = {s:.2f}", flush=True)
