"""What an order does not ask for, as it was there before.

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


def upgrade() -> None:
    """Apply."""
    for name in LEFT_OUT:
        op.add_column(
            "order_tiles", sa.Column(name, sa.Integer(), server_default=sa.text("0"), nullable=False)
        )


def downgrade() -> None:
    """Undo."""
    for name in LEFT_OUT:
        op.drop_column("order_tiles", name)
