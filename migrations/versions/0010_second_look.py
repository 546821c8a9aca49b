"""What a second look would buy.

Revision 0010.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.add_column("classified_tiles", sa.Column("buy_next", postgresql.ARRAY(sa.Integer()), nullable=True))


def downgrade() -> None:
    """Undo."""
    op.drop_column("classified_tiles", "buy_next")
