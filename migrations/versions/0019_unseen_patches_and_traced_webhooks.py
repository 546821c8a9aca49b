"""Which patches of a tile LR shows nothing of; where the trace of a webhook's message goes on.

Revision 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "tiles", sa.Column("unseen", sa.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.add_column("webhook_deliveries", sa.Column("traceparent", sa.String(55), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("webhook_deliveries", "traceparent")
    op.drop_column("tiles", "unseen")
