"""Training runs.

Revision 0007.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# app.training.states.MOVES as it was in this revision; a test holds the trigger to the code
MOVE_FUNCTION = """
CREATE FUNCTION training_runs_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'queued' THEN
            RAISE EXCEPTION 'a training run begins as queued, not as %', NEW.status
                USING ERRCODE = 'check_violation';
        END IF;
    ELSIF (OLD.status, NEW.status) NOT IN (('queued', 'cancelled'), ('queued', 'failed'),
        ('queued', 'running'), ('running', 'cancelled'), ('running', 'cancelling'),
        ('running', 'failed'), ('running', 'queued'), ('running', 'ready'),
        ('running', 'running'), ('cancelling', 'cancelled'), ('cancelled', 'queued'),
        ('failed', 'queued')) THEN
        RAISE EXCEPTION 'a training run does not go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
"""
MOVE_TRIGGER = """
CREATE TRIGGER training_runs_move BEFORE INSERT OR UPDATE OF status ON training_runs
    FOR EACH ROW EXECUTE FUNCTION training_runs_move();
"""


def upgrade() -> None:
    """Apply."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "training_runs",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("recipe_name", sa.String(100), nullable=False),
        sa.Column("overrides", postgresql.JSONB(), nullable=False),
        sa.Column("recipe", postgresql.JSONB(), nullable=False),
        sa.Column("stages", sa.ARRAY(sa.String(8)), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("device", sa.String(8), nullable=False),
        sa.Column("processes", sa.Integer(), nullable=False),
        sa.Column("parent", sa.String(200), nullable=True),
        sa.Column("parent_weights_sha256", sa.String(64), nullable=True),
        sa.Column("progress", postgresql.JSONB(), nullable=True),
        sa.Column("notices", sa.ARRAY(sa.String(500)), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("checkpoint_key", sa.String(200), nullable=True),
        sa.Column("checkpoint", postgresql.JSONB(), nullable=True),
        sa.Column("release_id", sa.Uuid(), nullable=True),
        sa.Column("idempotency_key", sa.String(255), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
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
            "status IN ('queued', 'running', 'cancelling', 'cancelled', 'ready', 'failed')",
            name=op.f("ck_training_runs_status"),
        ),
        sa.CheckConstraint(
            "(status IN ('running', 'cancelling')) = (lease_owner IS NOT NULL)"
            " AND (lease_owner IS NULL) = (lease_expires_at IS NULL)",
            name=op.f("ck_training_runs_lease"),
        ),
        sa.CheckConstraint(
            "(status IN ('ready', 'failed', 'cancelled')) = (finished_at IS NOT NULL)",
            name=op.f("ck_training_runs_finished"),
        ),
        sa.CheckConstraint(
            "(status = 'ready') = (release_id IS NOT NULL)", name=op.f("ck_training_runs_ready_has_release")
        ),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_training_runs_org_id_organisations")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_training_runs_dataset_id_datasets")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_runs")),
        sa.UniqueConstraint(
            "org_id", "idempotency_key", name=op.f("uq_training_runs_org_id_idempotency_key")
        ),
    )
    op.create_index(
        "ix_training_runs_open",
        "training_runs",
        ["created_at"],
        postgresql_where=sa.text("status IN ('queued', 'running', 'cancelling')"),
    )
    op.create_index("ix_training_runs_page", "training_runs", ["org_id", "created_at", "id"])
    op.execute(MOVE_FUNCTION)
    op.execute(MOVE_TRIGGER)
    op.create_table(
        "training_metrics",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.String(8), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("values", postgresql.JSONB(), nullable=False),
        sa.Column("at", moment, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"],
            ["training_runs.id"],
            name=op.f("fk_training_metrics_run_id_training_runs"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_metrics")),
        sa.UniqueConstraint(
            "run_id", "stage", "member", "epoch", name=op.f("uq_training_metrics_run_id_stage_member_epoch")
        ),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("training_metrics")
    op.drop_table("training_runs")
    op.execute("DROP FUNCTION training_runs_move()")
