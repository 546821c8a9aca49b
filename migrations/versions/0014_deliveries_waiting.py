"""What a webhook is to be told next is found without reading all that waits.

Revision 0014.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

WAITING = sa.text("state = 'waiting'")


def upgrade() -> None:
    """Apply."""
    op.create_index(
        "ix_webhook_deliveries_waiting",
        "webhook_deliveries",
        ["endpoint_id", "next_try_at", "id"],
        postgresql_where=WAITING,
    )
    op.drop_index("ix_webhook_deliveries_due", "webhook_deliveries")


def downgrade() -> None:
    """Undo."""
    op.create_index(
        "ix_webhook_deliveries_due", "webhook_deliveries", ["next_try_at"], postgresql_where=WAITING
    )
    op.drop_index("ix_webhook_deliveries_waiting", "webhook_deliveries")
