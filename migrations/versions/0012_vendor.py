"""A vendor's name as long as price lists take it.

Revision 0012.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    for table in ("orders", "ledger"):
        op.alter_column(
            table, "vendor", type_=sa.String(500), existing_type=sa.String(200), existing_nullable=False
        )


def downgrade() -> None:
    """Undo; raises where a name is too long for it."""
    for table in ("orders", "ledger"):
        op.alter_column(
            table, "vendor", type_=sa.String(200), existing_type=sa.String(500), existing_nullable=False
        )
