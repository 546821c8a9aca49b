"""Price lists, the product a plan was priced with, and budgets.

Revision 0004.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "price_lists",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", postgresql.JSONB(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_price_lists_org_id_organisations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_price_lists")),
        sa.UniqueConstraint("org_id", "name", "version", name=op.f("uq_price_lists_org_id_name_version")),
    )
    op.add_column("plans", sa.Column("product", postgresql.JSONB(), nullable=True))
    op.add_column("plans", sa.Column("options", postgresql.JSONB(), nullable=True))
    op.create_table(
        "budgets",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("budget", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("product", postgresql.JSONB(), nullable=False),
        sa.Column("request", postgresql.JSONB(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("answer", postgresql.JSONB(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_owner", sa.String(length=200), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("error", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'ready', 'failed')", name=op.f("ck_budgets_status")
        ),
        sa.CheckConstraint(
            "(status = 'running') = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_budgets_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('ready', 'failed')) = (finished_at IS NOT NULL)", name=op.f("ck_budgets_finished")
        ),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_budgets_org_id_organisations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
        sa.UniqueConstraint("org_id", "idempotency_key", name=op.f("uq_budgets_org_id_idempotency_key")),
    )
    op.create_index(
        "ix_budgets_open",
        "budgets",
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )
    op.create_index("ix_budgets_page", "budgets", ["org_id", "created_at", "id"])
    op.create_table(
        "budget_tiles",
        sa.Column("budget_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("chosen", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("bought", sa.ARRAY(sa.Integer()), nullable=False),
        sa.Column("expected_before", sa.Double(), nullable=True),
        sa.Column("expected_after", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["budget_id"],
            ["budgets.id"],
            name=op.f("fk_budget_tiles_budget_id_budgets"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("budget_id", "position", name=op.f("pk_budget_tiles")),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("budget_tiles")
    op.drop_table("budgets")
    op.drop_column("plans", "options")
    op.drop_column("plans", "product")
    op.drop_table("price_lists")
