"""Releases in the database, aliases, comparisons, shadows.

Revision 0008.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

MADE_WITH = ("plans", "classifications")


def _work_columns() -> list[sa.Column[object]]:
    moment = sa.DateTime(timezone=True)
    return [
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
    ]


def _work_constraints(table: str) -> list[sa.Constraint]:
    return [
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
        sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{table}")),
    ]


def _open_index(table: str) -> None:
    op.create_index(
        f"ix_{table}_open",
        table,
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running')"),
    )


def _of_organisation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["org_id"],
        ["organisations.id"],
        name=op.f(f"fk_{table}_org_id_organisations"),
        ondelete="CASCADE",
    )


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "releases",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("weights_sha256", sa.String(64), nullable=False),
        sa.Column("weights_bytes", sa.BigInteger(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("card_sha256", sa.String(64), nullable=False),
        sa.Column("training_run_id", sa.Uuid(), nullable=True),
        sa.Column("dataset_id", sa.Uuid(), nullable=True),
        sa.Column("parent", sa.String(200), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        _of_organisation("releases"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("org_id", "name", "version", name=op.f("uq_releases_org_id_name_version")),
        sa.UniqueConstraint("training_run_id", name=op.f("uq_releases_training_run_id")),
    )
    op.create_index("ix_releases_page", "releases", ["org_id", "created_at", "id"])
    _aliases()
    _comparisons()
    _shadow_plans()
    for table in MADE_WITH:
        op.add_column(table, sa.Column("release_id", sa.Uuid(), nullable=True))
        op.create_foreign_key(
            op.f(f"fk_{table}_release_id_releases"), table, "releases", ["release_id"], ["id"]
        )


def _aliases() -> None:
    op.create_table(
        "alias_moves",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("release", sa.String(200), nullable=True),
        sa.Column("below_id", sa.Uuid(), nullable=True),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("forced", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=True),
        sa.Column("gate", postgresql.JSONB(), nullable=True),
        sa.CheckConstraint("kind IN ('move', 'rollback', 'remove')", name=op.f("ck_alias_moves_kind")),
        sa.CheckConstraint(
            "(kind = 'remove') = (release IS NULL)", name=op.f("ck_alias_moves_points_somewhere")
        ),
        sa.CheckConstraint(
            "NOT forced OR reason IS NOT NULL", name=op.f("ck_alias_moves_forced_for_a_reason")
        ),
        _of_organisation("alias_moves"),
        sa.ForeignKeyConstraint(
            ["below_id"],
            ["alias_moves.id"],
            name=op.f("fk_alias_moves_below_id_alias_moves"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alias_moves")),
        sa.UniqueConstraint("org_id", "alias", "version", name=op.f("uq_alias_moves_org_id_alias_version")),
    )
    op.create_table(
        "release_aliases",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("version", sa.Integer(), server_default="0", nullable=False),
        sa.Column("release", sa.String(200), nullable=True),
        sa.Column("move_id", sa.Uuid(), nullable=True),
        sa.Column(
            "moved_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        _of_organisation("release_aliases"),
        sa.ForeignKeyConstraint(
            ["move_id"],
            ["alias_moves.id"],
            name=op.f("fk_release_aliases_move_id_alias_moves"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", "name", name=op.f("pk_release_aliases")),
    )


def _comparisons() -> None:
    op.create_table(
        "comparisons",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("release", sa.String(200), nullable=False),
        sa.Column("card_sha256", sa.String(64), nullable=False),
        sa.Column("other", sa.String(200), nullable=False),
        sa.Column("other_card_sha256", sa.String(64), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        *_work_columns(),
        _of_organisation("comparisons"),
        *_work_constraints("comparisons"),
    )
    _open_index("comparisons")
    op.create_index(
        "uq_comparisons_pair",
        "comparisons",
        ["org_id", "release", "card_sha256", "other", "other_card_sha256", "dataset_id"],
        unique=True,
        postgresql_where=sa.text("status <> 'failed'"),
    )


def _shadow_plans() -> None:
    op.create_table(
        "shadow_plans",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("release", sa.String(200), nullable=False),
        sa.Column("card_sha256", sa.String(64), nullable=False),
        sa.Column("result", postgresql.JSONB(), nullable=True),
        *_work_columns(),
        _of_organisation("shadow_plans"),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name=op.f("fk_shadow_plans_plan_id_plans"), ondelete="CASCADE"
        ),
        *_work_constraints("shadow_plans"),
    )
    _open_index("shadow_plans")
    op.create_index(
        "uq_shadow_plans_once", "shadow_plans", ["plan_id", "release", "card_sha256"], unique=True
    )
    op.create_index("ix_shadow_plans_release", "shadow_plans", ["org_id", "release"])


def downgrade() -> None:
    """Take back."""
    for table in MADE_WITH:
        op.drop_constraint(op.f(f"fk_{table}_release_id_releases"), table, type_="foreignkey")
        op.drop_column(table, "release_id")
    for table in ("shadow_plans", "comparisons", "release_aliases", "alias_moves", "releases"):
        op.drop_table(table)
