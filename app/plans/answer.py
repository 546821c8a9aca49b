"""From probabilities to a plan's answer: which patches are chosen, what they cover and cost. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from app.core import money

# s_p is kept and compared with these decimals, so that "selected" is just what a client can see:
# probability > threshold. A network's own noise from one batch size to another is about 1e-7.
PROBABILITY_DECIMALS: Final = 6


@dataclass(frozen=True)
class TileAnswer:
    """One tile's patches, in the order of their ids. ``most`` may be chosen; None: any number.

    ``unseen`` are the patches of which LR shows nothing.
    """

    probabilities: tuple[float, ...]
    chosen: tuple[bool, ...]
    areas_km2: tuple[Decimal, ...]
    prices: tuple[Decimal, ...] | None
    most: int | None = None
    unseen: tuple[int, ...] = ()


def choose(
    probabilities: Sequence[float],
    areas_km2: Sequence[Decimal],
    threshold: float,
    max_patches: int | None,
    must: Collection[int] = (),
    never: Collection[int] = (),
) -> tuple[bool, ...]:
    """The patches with s_p above ``threshold``: the ``max_patches`` likeliest, of equals the first ids.

    Patches that ``must`` be bought come first whatever their s_p, and all of them though they be more than
    ``max_patches``; those of ``never`` are left out before any is counted, also where both name them. A patch
    with no ground inside the raster is never chosen.
    """
    there = [patch for patch, area in enumerate(areas_km2) if area > 0 and patch not in never]
    kept = {patch for patch in there if patch in must}
    wanted = [patch for patch in there if probabilities[patch] > threshold and patch not in kept]
    wanted.sort(key=lambda patch: (-probabilities[patch], patch))
    kept.update(wanted if max_patches is None else wanted[: max(0, max_patches - len(kept))])
    return tuple(patch in kept for patch in range(len(probabilities)))


def answer_tile(
    raw_probabilities: Iterable[float],
    raw_areas_km2: Iterable[Decimal],
    *,
    threshold: float,
    max_patches: int | None,
    price_per_km2: Decimal | None,
    unseen: Collection[int] = (),
) -> TileAnswer:
    """A tile's answer from the policy's s_p and the patches' ellipsoidal areas (km²)."""
    probabilities = kept_probabilities(raw_probabilities, unseen)
    areas = tuple(money.measured(area) for area in raw_areas_km2)
    prices = None
    if price_per_km2 is not None:
        prices = tuple(money.price_of(area, price_per_km2) for area in areas)
    chosen = choose(probabilities, areas, threshold, max_patches)
    return TileAnswer(probabilities, chosen, areas, prices, max_patches, tuple(unseen))


def kept_probabilities(raw: Iterable[float], unseen: Collection[int]) -> tuple[float, ...]:
    """The policy's s_p as they are kept; 0, which no threshold lets by, where it saw nothing."""
    return tuple(
        0.0 if patch in unseen else round(float(value), PROBABILITY_DECIMALS)
        for patch, value in enumerate(raw)
    )


def kept_gain(gain: dict[str, Any] | None, answer: TileAnswer) -> dict[str, Any] | None:
    """A tile's ``TileRow.gain``: patches that were not seen have no weight; None where none was."""
    if gain is None or not answer.unseen:
        return gain
    if all(area == 0 or patch in answer.unseen for patch, area in enumerate(answer.areas_km2)):
        return None
    weights = [0.0 if patch in answer.unseen else weight for patch, weight in enumerate(gain["weights"])]
    return {**gain, "weights": weights}


def totals(tiles: Iterable[TileAnswer], currency: str | None) -> dict[str, Any]:
    """A plan's totals by column: counts, exact areas (km²), and costs rounded to the minor unit."""
    patches = chosen = 0
    area = chosen_area = price = chosen_price = Decimal(0)
    for tile in tiles:
        prices = tile.prices or (Decimal(0),) * len(tile.areas_km2)
        for is_chosen, patch_area, patch_price in zip(tile.chosen, tile.areas_km2, prices, strict=True):
            patches += patch_area > 0
            area = money.EXACT.add(area, patch_area)
            price = money.EXACT.add(price, patch_price)
            if is_chosen:
                chosen += 1
                chosen_area = money.EXACT.add(chosen_area, patch_area)
                chosen_price = money.EXACT.add(chosen_price, patch_price)
    return {
        "patch_count": patches,
        "chosen_count": chosen,
        "area_km2": area,
        "chosen_area_km2": chosen_area,
        "cost": None if currency is None else money.total_of(price, currency),
        "chosen_cost": None if currency is None else money.total_of(chosen_price, currency),
    }
