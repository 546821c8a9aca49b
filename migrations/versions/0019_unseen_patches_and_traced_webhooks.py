"""Which patches of a tile LR shows nothing of; where the trace of a webhook's message goes on.

Revision 0019.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Of older plans only this much is known: where a tile has no valid pixel, LR shows nothing of its patches.
# What was chosen stays.
BLIND_TILES = """
UPDATE tiles SET
    unseen = ARRAY(
        SELECT n - 1 FROM unnest(areas_km2) WITH ORDINALITY AS patch (area, n) WHERE area > 0 ORDER BY n
    ),
    probabilities = array_fill(0::float8, ARRAY[cardinality(probabilities)]),
    gain = NULL
WHERE valid_fraction = 0
"""


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "tiles", sa.Column("unseen", sa.ARRAY(sa.Integer()), server_default=sa.text("'{}'"), nullable=False)
    )
    op.execute(BLIND_TILES)
    op.add_column("webhook_deliveries", sa.Column("traceparent", sa.String(55), nullable=True))


def downgrade() -> None:
    """Undo; the probabilities and gains of tiles without valid pixels do not come back."""
    op.drop_column("webhook_deliveries", "traceparent")
    op.drop_column("tiles", "unseen")
