"""What an order does not ask for, as it was there before; what a vendor charges for cancelling one.

Revision 0016.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# which patches older orders from classifications left out was not noted: theirs stay 0
LEFT_OUT = ("left_out_received", "left_out_ordered")

KINDS = "'purchase', 'acquisition', 'delivery', 'reversal', 'correction'"
ONCE = "'purchase', 'delivery'"
FEE = ", 'cancellation_fee'"


def upgrade() -> None:
    """Apply."""
    for name in LEFT_OUT:
        op.add_column(
            "order_tiles", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
    op.add_column("orders", sa.Column("cancellation_fee", sa.Numeric(), nullable=True))
    op.create_check_constraint(
        "fee_of_a_cancelled",
        "orders",
        "cancellation_fee IS NULL OR (cancellation_fee >= 0 AND state = 'cancelled')",
    )
    _ledger(KINDS + FEE, ONCE + FEE)


def downgrade() -> None:
    """Undo; raises where a cancelled order has cost a fee."""
    _ledger(KINDS, ONCE)
    op.drop_constraint("fee_of_a_cancelled", "orders", type_="check")
    op.drop_column("orders", "cancellation_fee")
    for name in LEFT_OUT:
        op.drop_column("order_tiles", name)


def _ledger(kinds: str, once: str) -> None:
    """The kinds of entries that there are, and those that are of an order and entered once."""
    op.drop_constraint("known_kind", "ledger", type_="check")
    op.create_check_constraint("known_kind", "ledger", f"kind IN ({kinds})")
    op.drop_constraint("of_an_order", "ledger", type_="check")
    op.create_check_constraint("of_an_order", "ledger", f"kind NOT IN ({once}) OR order_id IS NOT NULL")
    op.drop_index("uq_ledger_order", "ledger")
    op.create_index(
        "uq_ledger_order",
        "ledger",
        ["order_id", "plan_id", "tile", "kind"],
        unique=True,
        postgresql_where=sa.text(f"kind IN ({once})"),
        postgresql_nulls_not_distinct=True,
    )
