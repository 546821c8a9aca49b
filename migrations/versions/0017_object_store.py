"""Which object store is this database's.

Revision 0017.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "object_store",
        sa.Column("single", sa.Boolean(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("noted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("single", name="ck_object_store_single"),
        sa.PrimaryKeyConstraint("single", name="pk_object_store"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("object_store")
