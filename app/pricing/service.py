"""Price lists: kept version by version, found by name. Nothing is ever changed or deleted."""

import hashlib
import json
import re
import uuid
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.core.errors import Conflict, NotFound, PriceListExpired, UnknownProduct
from app.core.work import uuid7
from app.pricing.products import Product, Rules, Tier
from app.pricing.reading import read_price_list
from app.pricing.schemas import PriceListIn, ProductIn
from app.pricing.tables import PriceListRow

EXAMPLES: Final = Path(__file__).parent / "examples"

_REF = re.compile(r"([a-z0-9][a-z0-9._-]{0,63})/([a-z0-9][a-z0-9._-]{0,63})(?:@([1-9]\d{0,8}))?", re.ASCII)


@lru_cache
def examples() -> dict[str, PriceListIn]:
    """The shipped examples by name; each is its own version 1."""
    files = sorted(EXAMPLES.glob("*.yaml"))
    lists = [read_price_list(path.read_bytes(), "application/yaml") for path in files]
    return {found.name: found for found in lists}


def create(session: Session, org_id: uuid.UUID, posted: PriceListIn) -> tuple[PriceListRow, bool]:
    """A new version of the organisation's list, and whether it is new: the newest one again makes none.

    Raises Conflict for the name of a shipped example.
    """
    if posted.name in examples():
        raise Conflict(f"{posted.name} is a shipped example; give your list another name.")
    document = posted.model_dump(mode="json")
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    # one at a time for one name, so that versions have no gaps
    session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"price-list:{org_id}:{posted.name}", 0)))
    )
    newest = _newest(session, org_id, posted.name)
    if newest is not None and newest.sha256 == digest:
        return newest, False
    row = PriceListRow(
        id=uuid7(),
        org_id=org_id,
        name=posted.name,
        version=1 if newest is None else newest.version + 1,
        document=document,
        sha256=digest,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    return row, True


def get(session: Session, org_id: uuid.UUID, name: str, version: int | None = None) -> PriceListRow | None:
    """A version of the organisation's list (None: its newest); None for a shipped example.

    Raises NotFound.
    """
    if name in examples():
        if version not in (None, 1):
            raise NotFound(f"The example {name} has one version.")
        return None
    if version is None:
        row = _newest(session, org_id, name)
    else:
        row = session.scalar(
            select(PriceListRow).where(
                PriceListRow.org_id == org_id, PriceListRow.name == name, PriceListRow.version == version
            )
        )
    if row is None:
        which = "" if version is None else f" version {version}"
        raise NotFound(f"There is no price list {name}{which}.")
    return row


def find_product(session: Session, org_id: uuid.UUID, ref: str, on: date) -> Product:
    """The product that ``price-list/key`` (its newest version) or ``price-list/key@version`` names.

    Raises UnknownProduct, and PriceListExpired where its prices do not hold on the day ``on``.
    """
    match = _REF.fullmatch(ref)
    if match is None:
        raise _unknown(f"A product is named price-list/key or price-list/key@version, not {ref[:200]!r}.")
    name, key, version = match[1], match[2], match[3]
    try:
        row = get(session, org_id, name, None if version is None else int(version))
    except NotFound as error:
        raise _unknown(error.detail) from None
    listed = examples()[name] if row is None else PriceListIn.model_validate(row.document)
    wanted = next((product for product in listed.products if product.key == key), None)
    if wanted is None:
        keys = ", ".join(product.key for product in listed.products)
        raise _unknown(f"The price list {name} has no product {key}; it has {keys}."[:500])
    product = as_product(wanted, name, 1 if row is None else row.version, None if row is None else row.id)
    if not product.is_valid(on):
        held = f"from {product.valid_from or 'ever'} to {product.valid_to or 'further notice'}"
        raise PriceListExpired(
            f"The prices of {product.ref} hold {held}, not on {on}; post a new version of the list.",
            product=product.ref,
            errors=[{"loc": ["body", "product"], "detail": f"valid {held}"}],
        )
    return product


def as_product(product: ProductIn, name: str, version: int, list_id: uuid.UUID | None) -> Product:
    """A list's entry as the rest of the service uses it."""
    rules = product.rules.model_dump()
    if product.tiers is not None:
        tiers = tuple(Tier(tier.up_to_km2, tier.price_per_km2) for tier in product.tiers)
    else:
        assert product.price_per_km2 is not None
        tiers = (Tier(None, product.price_per_km2),)
    return Product(
        key=product.key,
        name=product.name,
        vendor=product.vendor,
        currency=product.currency,
        tiers=tiers,
        gsd_m=product.gsd_m,
        min_order_km2=product.min_order_km2,
        min_polygon_km2=product.min_polygon_km2,
        small_polygons=product.small_polygons,
        # several parts are never convex together
        rules=Rules(**{**rules, "single_part": rules["single_part"] or rules["convex"]}),
        fixed_fee=product.fixed_fee,
        vat_rate=product.vat_rate,
        valid_from=product.valid_from,
        valid_to=product.valid_to,
        source=product.source,
        price_list=name,
        version=version,
        price_list_id=list_id,
    )


def _unknown(detail: str) -> UnknownProduct:
    return UnknownProduct(detail, errors=[{"loc": ["body", "product"], "detail": detail}])


def _newest(session: Session, org_id: uuid.UUID, name: str) -> PriceListRow | None:
    return session.scalar(
        select(PriceListRow)
        .where(PriceListRow.org_id == org_id, PriceListRow.name == name)
        .order_by(PriceListRow.version.desc())
        .limit(1)
    )
