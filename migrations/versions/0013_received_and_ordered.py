"""What was received and entered can be taken back when an order buys it, and entered again after.

Revision 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

# An order from classifications was drafted without what had been received. Which orders are such was not
# kept: of those from plans, what had come and was not chosen stays paid too.
PAID_BEFORE = """
UPDATE order_tiles AS mine SET paid_before = found.patches
FROM (
    SELECT t.order_id, t.plan_id, t.tile, bit_or(1 << r.patch) AS patches
    FROM order_tiles t
    JOIN orders o ON o.id = t.order_id
    JOIN received_patches r ON r.plan_id = t.plan_id AND r.tile = t.tile
    JOIN acquisitions a ON a.id = r.acquisition_id
    WHERE o.budget_id IS NULL AND a.received_at < o.created_at
        AND (t.patches & ~t.chosen) >> r.patch & 1 = 1
    GROUP BY t.order_id, t.plan_id, t.tile
) AS found
WHERE (mine.order_id, mine.plan_id, mine.tile) = (found.order_id, found.plan_id, found.tile)
"""


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "order_tiles", sa.Column("paid_before", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
    op.execute(PAID_BEFORE)
    op.drop_index("uq_ledger_acquisition", "ledger")
    op.drop_index("uq_ledger_order", "ledger")
    op.drop_constraint("of_an_order", "ledger", type_="check")
    op.create_check_constraint(
        "of_an_order", "ledger", "kind NOT IN ('purchase', 'delivery') OR order_id IS NOT NULL"
    )
    op.create_index(
        "uq_ledger_order",
        "ledger",
        ["order_id", "plan_id", "tile", "kind"],
        unique=True,
        postgresql_where=sa.text("kind IN ('purchase', 'delivery')"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "uq_ledger_reversal",
        "ledger",
        ["corrects"],
        unique=True,
        postgresql_where=sa.text("kind = 'reversal'"),
    )


def downgrade() -> None:
    """Undo; raises where an order has bought what was received before, or was cancelled after some of what
    came beside other patches had been entered.
    """
    op.drop_index("uq_ledger_reversal", "ledger")
    op.drop_index("uq_ledger_order", "ledger")
    op.drop_constraint("of_an_order", "ledger", type_="check")
    op.create_check_constraint(
        "of_an_order", "ledger", "kind NOT IN ('purchase', 'delivery', 'reversal') OR order_id IS NOT NULL"
    )
    op.create_index(
        "uq_ledger_order",
        "ledger",
        ["order_id", "plan_id", "tile", "kind"],
        unique=True,
        postgresql_where=sa.text("kind IN ('purchase', 'delivery', 'reversal')"),
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        "uq_ledger_acquisition",
        "ledger",
        ["acquisition_id", "tile"],
        unique=True,
        postgresql_where=sa.text("kind = 'acquisition'"),
    )
    op.drop_column("order_tiles", "paid_before")
