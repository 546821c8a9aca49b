"""Classes of a shadow; a comparison belongs to its data set.

Revision 0009.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

OF_DATASET = "fk_comparisons_dataset_id_datasets"


def upgrade() -> None:
    """Apply."""
    # a data set could be deleted under its comparisons, which nobody could ask for any more
    op.execute("DELETE FROM comparisons WHERE dataset_id NOT IN (SELECT id FROM datasets)")
    op.create_foreign_key(OF_DATASET, "comparisons", "datasets", ["dataset_id"], ["id"], ondelete="CASCADE")
    op.create_index("ix_comparisons_dataset", "comparisons", ["dataset_id"])
    _shadow_classifications()


def _shadow_classifications() -> None:
    table = "shadow_classifications"
    moment = sa.DateTime(timezone=True)
    op.create_table(
        table,
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("classification_id", sa.Uuid(), nullable=False),
        sa.Column("release", sa.String(200), nullable=False),
        sa.Column("card_sha256", sa.String(64), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", moment, nullable=True),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("lease_owner", sa.String(200), nullable=True),
        sa.Column("lease_expires_at", moment, nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "(status = 'running') = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name=op.f(f"ck_{table}_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('ready', 'failed')) = (finished_at IS NOT NULL)", name=op.f(f"ck_{table}_finished")
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'ready', 'failed')", name=op.f(f"ck_{table}_status")
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f(f"fk_{table}_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["classification_id"],
            ["classifications.id"],
            name=op.f(f"fk_{table}_classification_id_classifications"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    )
    op.create_index(
        f"ix_{table}_open",
        table,
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index(f"uq_{table}_once", table, ["classification_id", "release", "card_sha256"], unique=True)
    op.create_index(f"ix_{table}_release", table, ["org_id", "release"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("shadow_classifications")
    op.drop_index("ix_comparisons_dataset", "comparisons")
    op.drop_constraint(OF_DATASET, "comparisons", type_="foreignkey")
