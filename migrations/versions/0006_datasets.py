"""Datasets and labels.

Revision 0006.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "datasets",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("request", postgresql.JSONB(), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=True),
        sa.Column("same_as", sa.Uuid(), nullable=True),
        sa.Column("content_sha256", sa.String(64), nullable=True),
        sa.Column("snapshot_key", sa.String(200), nullable=True),
        sa.Column("snapshot_bytes", sa.BigInteger(), nullable=True),
        sa.Column("inventory_key", sa.String(200), nullable=True),
        sa.Column("form", sa.String(16), nullable=True),
        sa.Column("classes", sa.ARRAY(sa.String(200)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("n_pictures", sa.Integer(), nullable=True),
        sa.Column("n_train", sa.Integer(), nullable=True),
        sa.Column("n_val", sa.Integer(), nullable=True),
        sa.Column("n_test", sa.Integer(), nullable=True),
        sa.Column("summary", postgresql.JSONB(), nullable=True),
        sa.Column("warnings", sa.ARRAY(sa.String(64)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(200), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'ready', 'failed')", name=op.f("ck_datasets_status")
        ),
        sa.CheckConstraint(
            "(status = 'running') = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_datasets_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('ready', 'failed')) = (finished_at IS NOT NULL)", name=op.f("ck_datasets_finished")
        ),
        sa.CheckConstraint(
            "(status = 'ready') = (content_sha256 IS NOT NULL)", name=op.f("ck_datasets_ready_has_content")
        ),
        sa.CheckConstraint("origin IN ('upload', 'uri', 'tiles')", name=op.f("ck_datasets_origin")),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_datasets_org_id_organisations")
        ),
        sa.ForeignKeyConstraint(["same_as"], ["datasets.id"], name=op.f("fk_datasets_same_as_datasets")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index(
        "ix_datasets_open",
        "datasets",
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("ix_datasets_page", "datasets", ["org_id", "created_at", "id"])
    op.create_index("ix_datasets_fingerprint", "datasets", ["org_id", "fingerprint"])
    op.create_index(
        "uq_datasets_content",
        "datasets",
        ["org_id", "content_sha256"],
        unique=True,
        postgresql_where=sa.text("same_as IS NULL"),
    )
    op.create_table(
        "labels",
        sa.Column("number", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), nullable=False),
        sa.Column("class_name", sa.String(200), nullable=True),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("key_name", sa.String(200), nullable=False),
        sa.Column("by", sa.String(200), nullable=True),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["plan_id", "tile"],
            ["tiles.plan_id", "tiles.tile"],
            name=op.f("fk_labels_plan_id_tile_tiles"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_labels_key_id_api_keys")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_labels")),
    )
    op.create_index("ix_labels_newest", "labels", ["plan_id", "tile", "number"])


def downgrade() -> None:
    """Take back."""
    op.drop_table("labels")
    op.drop_table("datasets")
