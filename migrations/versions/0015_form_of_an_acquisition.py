"""The form fields that an acquisition's file was sent with, so that it can be sent again.

Revision 0015.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("acquisitions", sa.Column("form", postgresql.JSONB(), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("acquisitions", "form")
