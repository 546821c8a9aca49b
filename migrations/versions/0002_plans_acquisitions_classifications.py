"""Plans and their tiles, acquisitions, classifications, idempotency keys.

Revision 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "plans",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("release", sa.String(200), nullable=False),
        sa.Column("release_version", sa.String(200), nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("streams", sa.String(16), nullable=False),
        sa.Column("fusion", sa.String(64), nullable=False),
        sa.Column("hr_px", sa.Integer(), nullable=False),
        sa.Column("band_names", sa.ARRAY(sa.String(64)), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("max_patches", sa.Integer(), nullable=True),
        sa.Column("tile_size_m", sa.Double(), nullable=True),
        sa.Column("price_per_km2", sa.Numeric(), nullable=True),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("tags", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("lr_sha256", sa.String(64), nullable=False),
        sa.Column("lr_bytes", sa.BigInteger(), nullable=False),
        sa.Column("raster", postgresql.JSONB(), nullable=False),
        sa.Column("bands", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("value_scale", sa.Double(), nullable=True),
        sa.Column("value_offset", sa.Double(), nullable=True),
        sa.Column("scaling", postgresql.JSONB(), nullable=True),
        sa.Column("hr_scalings", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("warnings", sa.ARRAY(sa.String(64)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("tile_count", sa.Integer(), nullable=False),
        sa.Column("patch_count", sa.Integer(), nullable=True),
        sa.Column("chosen_count", sa.Integer(), nullable=True),
        sa.Column("area_km2", sa.Numeric(), nullable=True),
        sa.Column("chosen_area_km2", sa.Numeric(), nullable=True),
        sa.Column("cost", sa.Numeric(), nullable=True),
        sa.Column("chosen_cost", sa.Numeric(), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="0", nullable=False),
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
            "(status = 'running') = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_plans_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('ready', 'failed')) = (finished_at IS NOT NULL)", name=op.f("ck_plans_finished")
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'ready', 'failed')", name=op.f("ck_plans_status")
        ),
        sa.CheckConstraint(
            "(price_per_km2 IS NULL) = (currency IS NULL)", name=op.f("ck_plans_price_has_currency")
        ),
        sa.ForeignKeyConstraint(["org_id"], ["organisations.id"], name=op.f("fk_plans_org_id_organisations")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plans")),
    )
    op.create_index(
        "ix_plans_open", "plans", ["created_at"], postgresql_where=sa.text("status IN ('queued', 'running')")
    )
    op.create_index("ix_plans_page", "plans", ["org_id", "created_at", "id"])
    op.create_table(
        "acquisitions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("file_sha256", sa.String(64), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("raster", postgresql.JSONB(), nullable=False),
        sa.Column("bands", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("scaling", postgresql.JSONB(), nullable=True),
        sa.Column("warnings", sa.ARRAY(sa.String(64)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("refused", postgresql.JSONB(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_acquisitions_plan_id_plans"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_acquisitions")),
    )
    op.create_index("ix_acquisitions_digest", "acquisitions", ["plan_id", "digest"])
    op.create_table(
        "classifications",
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("top_k", sa.Integer(), nullable=False),
        sa.Column("release", sa.String(200), nullable=False),
        sa.Column("release_version", sa.String(200), nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("streams", sa.String(16), nullable=False),
        sa.Column("fusion", sa.String(64), nullable=False),
        sa.Column("classes", sa.ARRAY(sa.String(200)), nullable=False),
        sa.Column("fmow", sa.ARRAY(sa.String(200)), nullable=False),
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
            "(status = 'running') = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_classifications_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('ready', 'failed')) = (finished_at IS NOT NULL)",
            name=op.f("ck_classifications_finished"),
        ),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'ready', 'failed')", name=op.f("ck_classifications_status")
        ),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_classifications_plan_id_plans"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_classifications")),
    )
    op.create_index(
        "ix_classifications_open",
        "classifications",
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("ix_classifications_plan", "classifications", ["plan_id", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("token", sa.Uuid(), nullable=False),
        sa.Column("reserved_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("plan_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "(plan_id IS NULL) = (reserved_until IS NOT NULL)",
            name=op.f("ck_idempotency_keys_reserved_or_done"),
        ),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_idempotency_keys_org_id_organisations")
        ),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_idempotency_keys_plan_id_plans"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("org_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "tiles",
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("col", sa.Integer(), nullable=False),
        sa.Column("bounds", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("clipped", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("north_up", sa.Boolean(), nullable=False),
        sa.Column("east_right", sa.Boolean(), nullable=False),
        sa.Column("valid_fraction", sa.Double(), nullable=False),
        sa.Column("probabilities", sa.ARRAY(sa.Double()), nullable=False),
        sa.Column("chosen", sa.ARRAY(sa.Boolean()), nullable=False),
        sa.Column("areas_km2", sa.ARRAY(sa.Numeric()), nullable=False),
        sa.Column("prices", sa.ARRAY(sa.Numeric()), nullable=True),
        sa.CheckConstraint(
            "cardinality(probabilities) = cardinality(chosen)"
            " AND cardinality(probabilities) = cardinality(areas_km2)",
            name=op.f("ck_tiles_one_a_patch"),
        ),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_tiles_plan_id_plans"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("plan_id", "tile", name=op.f("pk_tiles")),
    )
    op.create_table(
        "classified_tiles",
        sa.Column("classification_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("used", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("missing", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("fused", sa.ARRAY(sa.REAL()), nullable=True),
        sa.Column("hr", sa.ARRAY(sa.REAL()), nullable=True),
        sa.Column("lr", sa.ARRAY(sa.REAL()), nullable=True),
        sa.Column("weight_hr", sa.REAL(), nullable=False),
        sa.Column("weight_lr", sa.REAL(), nullable=False),
        sa.ForeignKeyConstraint(
            ["classification_id"],
            ["classifications.id"],
            name=op.f("fk_classified_tiles_classification_id_classifications"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("classification_id", "tile", name=op.f("pk_classified_tiles")),
    )
    op.create_table(
        "received_patches",
        sa.Column("acquisition_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patch", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.Boolean(), nullable=False),
        sa.Column("valid_fraction", sa.Double(), nullable=False),
        sa.Column("gsd_m", sa.Double(), nullable=False),
        sa.Column("area_km2", sa.Numeric(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("received_in", sa.Integer(), nullable=False),
        sa.Column("superseded_in", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["acquisition_id"],
            ["acquisitions.id"],
            name=op.f("fk_received_patches_acquisition_id_acquisitions"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_received_patches_plan_id_plans"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("acquisition_id", "tile", "patch", name=op.f("pk_received_patches")),
    )
    op.create_index(
        "uq_received_patches_current",
        "received_patches",
        ["plan_id", "tile", "patch"],
        unique=True,
        postgresql_where=sa.text("superseded_in IS NULL"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("received_patches")
    op.drop_table("classified_tiles")
    op.drop_table("tiles")
    op.drop_table("idempotency_keys")
    op.drop_table("classifications")
    op.drop_table("acquisitions")
    op.drop_table("plans")
