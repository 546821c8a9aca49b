"""From a recipe's name and overrides to a whole recipe, checked by the trainer's own rules."""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from app.core.errors import RecipeRefused
from app.rasters.tiles import GRID
from models.recipe import STAGES, Recipe, RecipeError, load_recipe, parse_recipe

SECTIONS: Final = ("images", "networks", "training", "stages", "classes", "description", "licence")
LARGEST: Final = 2**53
DEEPEST: Final = 4

_PLACE = re.compile(r"(images|networks|training|stages|classes)((?:\.\w+)*)", re.ASCII)


def check(overrides: dict[str, Any]) -> None:
    """Raises RecipeRefused for what JSON can say and neither the rules nor the database can hold."""
    _plain(overrides, ["overrides"])


def compose(name: str, overrides: dict[str, Any], stages: Sequence[str] | None, parent: bool) -> Recipe:
    """The recipe to train by; stages that are not wanted have 0 epochs. Raises RecipeRefused.

    ``check`` has passed the overrides.
    """
    try:
        known = load_recipe(name)
    except RecipeError as error:
        # a file may be named on the command line only
        raise _refused(["recipe"], str(error).removesuffix("; or name a file")) from None
    for key in overrides:
        if key not in SECTIONS:
            raise _refused(["overrides", key], f"{key[:100]} is unknown; known: {', '.join(SECTIONS)}")
    raw = _merged(json.loads(json.dumps(dataclasses.asdict(known))), overrides)
    try:
        recipe = parse_recipe(raw)
    except RecipeError as error:
        raise _refused(_place(str(error)), str(error)) from None
    if recipe.images.grid != GRID:
        # the trainer reads other grids, for experiments; plans, orders and reports are of this one
        raise _refused(["overrides", "images", "grid"], f"images.grid: {GRID}, as plans are cut")
    return _only(recipe, stages, parent)


def to_json(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it is kept in a row; ``parse_recipe`` reads it back."""
    found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(recipe)))
    return found


def _only(recipe: Recipe, stages: Sequence[str] | None, parent: bool) -> Recipe:
    has = [name for name in STAGES if recipe.stages[name].epochs]
    wanted = has if stages is None else [name for name in STAGES if name in stages]
    if not wanted:
        raise _refused(["overrides", "stages"], "no stage has any epochs")
    for name in wanted:
        if name not in has:
            raise _refused(["stages"], f"the recipe {recipe.name} has no epochs for {name}; override them")
    if wanted[0] != "hr" and not parent:
        raise _refused(["parent"], f"a run that starts at {wanted[0]} names the release it starts from")
    kept = {
        name: stage if name in wanted else dataclasses.replace(stage, epochs=0)
        for name, stage in recipe.stages.items()
    }
    return dataclasses.replace(recipe, stages=kept)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _plain(value: object, place: list[str | int]) -> None:
    if len(place) > DEEPEST + 1:
        raise _refused(place, "nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            _plain(key, [*place, "(a name)"])
            _plain(inner, [*place, str(key)[:100]])
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _plain(inner, [*place, number])
    elif isinstance(value, str):
        if len(value) > 1000 or "\0" in value or not _encodes(value):
            raise _refused(place, "at most 1000 characters, none of them a NUL or half a character")
    elif isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise _refused(place, "not a number that a recipe can hold")


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _place(message: str) -> list[str | int]:
    found = _PLACE.search(message)
    return ["overrides", *(found[1] + found[2]).split(".")] if found else ["overrides"]


def _refused(place: Sequence[str | int], detail: str) -> RecipeRefused:
    shown = [step.encode("utf-8", "replace").decode() if isinstance(step, str) else step for step in place]
    return RecipeRefused(detail, errors=[{"loc": ["body", *shown], "detail": detail}])
