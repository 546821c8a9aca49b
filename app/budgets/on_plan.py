"""A plan's own budget and areas: which patches are chosen, once the policy has spoken."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import shapely

from app.budgets.areas import read_area
from app.budgets.choose import Allocation, allocate
from app.budgets.service import polygons_json, result_of
from app.budgets.stock import Mask, Stock, TileOffer, touching
from app.orderable.cells import Cell, polygons
from app.plans.answer import TileAnswer, choose
from app.plans.service import raster_info
from app.plans.tables import Plan
from app.pricing.products import Product
from app.rasters import Tile, plan_footprints
from models.card import GainModel


def product_of(plan: Plan) -> Product | None:
    """What the plan is priced with; None for a plan without a price."""
    if plan.product is not None:
        return Product.from_json(plan.product)
    if plan.price_per_km2 is None or plan.currency is None:
        return None
    return Product.ad_hoc(plan.price_per_km2, plan.currency)


def choose_again(
    plan: Plan,
    tiles: Sequence[Tile],
    answers: Sequence[TileAnswer],
    gains: Sequence[dict[str, Any] | None],
    model: GainModel | None,
) -> tuple[list[TileAnswer], dict[str, Any]]:
    """The answers with the patches that the plan's options choose, and the options with their result.

    With a budget the chosen patches are those that the money buys, all that the vendor's polygons cover
    included. Without one they are what must be bought, then the likeliest of what may be, as many as each
    answer's ``most`` allows. Raises BudgetTooSmall.
    """
    options = plan.options or {}
    if not options:
        return list(answers), options
    stock_of = _offers(plan, tiles, answers, gains, model)
    must = read_area(options.get("must_buy"), ("body", "must_buy"))
    never = read_area(options.get("never_buy"), ("body", "never_buy"))
    product = product_of(plan)
    if options.get("budget") is None or product is None:
        return _with_areas(stock_of, answers, plan.threshold, must, never), options
    found: Allocation = allocate(
        stock_of,
        product,
        Decimal(options["budget"]),
        max_patches=plan.max_patches,
        must_buy=must,
        never_buy=never,
    )
    bought = [set(tile.bought) for tile in found.tiles]
    result = result_of(Decimal(options["budget"]), found)
    return _chosen(answers, bought), {**options, "result": result, "polygons": polygons_json(found)}


def _with_areas(
    offers: Sequence[TileOffer],
    answers: Sequence[TileAnswer],
    threshold: float,
    must_buy: shapely.Geometry | None,
    never_buy: shapely.Geometry | None,
) -> list[TileAnswer]:
    stock = Stock(offers)
    must, never = (_by_tile(stock, touching(stock, area)) for area in (must_buy, never_buy))
    return [
        replace(
            one,
            chosen=choose(one.probabilities, one.areas_km2, threshold, one.most, must[number], never[number]),
        )
        for number, one in enumerate(answers)
    ]


def _by_tile(stock: Stock, patches: Mask) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in stock.tiles]
    for tile, patch in zip(stock.tile[patches].tolist(), stock.patch[patches].tolist(), strict=True):
        found[tile].add(patch)
    return found


def _chosen(answers: Sequence[TileAnswer], wanted: Sequence[set[int]]) -> list[TileAnswer]:
    return [
        replace(answer, chosen=tuple(patch in patches for patch in range(len(answer.chosen))))
        for answer, patches in zip(answers, wanted, strict=True)
    ]


def _offers(
    plan: Plan,
    tiles: Sequence[Tile],
    answers: Sequence[TileAnswer],
    gains: Sequence[dict[str, Any] | None],
    model: GainModel | None,
) -> list[TileOffer]:
    info = raster_info(plan)
    found = []
    footprints = plan_footprints(list(tiles), info.crs_wkt)
    for tile, answer, gain, of_tile in zip(tiles, answers, gains, footprints, strict=True):
        there = [p for p, g in enumerate(of_tile) if g is not None and answer.areas_km2[p] > 0]
        outlines = polygons([g for p in there if (g := of_tile[p]) is not None])
        cells = [
            Cell(plan.id, tile.index, patch, outline, answer.areas_km2[patch])
            for patch, outline in zip(there, outlines, strict=True)
        ]
        found.append(
            TileOffer(
                plan_id=plan.id,
                tile=tile.index,
                cells=cells,
                probabilities=answer.probabilities,
                threshold=plan.threshold,
                gain=gain,
                model=model,
                unseen=answer.unseen,
            )
        )
    return found
