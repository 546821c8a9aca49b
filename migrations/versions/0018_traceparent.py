"""Where a request's trace goes on, beside the work that it made.

Revision 0018.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLES = (
    "plans",
    "classifications",
    "budgets",
    "datasets",
    "training_runs",
    "comparisons",
    "shadow_plans",
    "shadow_classifications",
)


def upgrade() -> None:
    """Apply."""
    for table in TABLES:
        op.add_column(table, sa.Column("traceparent", sa.String(55), nullable=True))


def downgrade() -> None:
    """Undo."""
    for table in reversed(TABLES):
        op.drop_column(table, "traceparent")
