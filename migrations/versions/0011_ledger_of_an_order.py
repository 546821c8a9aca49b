"""The ledger's entries of one order or acquisition are found without reading all of it.

Revision 0011.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "ix_ledger_order",
        "ledger",
        ["order_id", "at", "id"],
        postgresql_where=sa.text("order_id IS NOT NULL"),
    )
    op.create_index(
        "ix_ledger_acquisition",
        "ledger",
        ["acquisition_id"],
        postgresql_where=sa.text("acquisition_id IS NOT NULL"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_index("ix_ledger_acquisition", "ledger")
    op.drop_index("ix_ledger_order", "ledger")
