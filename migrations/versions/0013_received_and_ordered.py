"""What was received and entered can be taken back when an order buys it, and entered again after.

Revision 0013.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "order_tiles", sa.Column("paid_before", sa.Integer(), server_default=sa.text("0"), nullable=False)
    )
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
    """Undo; raises where an order has bought what was received before."""
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
