"""Orders, webhooks, the ledger.

Revision 0005. Three triggers hold what a constraint cannot: an order moves only along its table of moves
(``app.orders.states``) and keeps its money once it is placed; the ledger and an order's moves only grow.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# inline rather than in a table: a table of moves could be changed by the code that it is to hold
ORDER_MOVES = """
CREATE FUNCTION order_moves_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'draft' THEN
            RAISE EXCEPTION 'an order begins as a draft, not as %', NEW.state
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (
        ('draft', 'quoted'), ('draft', 'placed'), ('draft', 'cancelled'),
        ('quoted', 'placed'), ('quoted', 'cancelled'),
        ('placed', 'received'), ('placed', 'cancelled')
    ) THEN
        RAISE EXCEPTION 'an order cannot move from % to %', OLD.state, NEW.state
            USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state NOT IN ('draft', 'quoted') AND (
        (NEW.currency, NEW.product, NEW.net, NEW.fee, NEW.vat, NEW.total, NEW.full_total)
            IS DISTINCT FROM
        (OLD.currency, OLD.product, OLD.net, OLD.fee, OLD.vat, OLD.total, OLD.full_total)
        OR NEW.quote_total IS DISTINCT FROM OLD.quote_total
        OR NEW.placed_at IS DISTINCT FROM OLD.placed_at
    ) THEN
        RAISE EXCEPTION 'the money of an order that is % stays as it is', OLD.state
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$
"""

# rows only: TRUNCATE is the owner's, for whom a trigger is no obstacle anyway
APPEND_ONLY = """
CREATE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: corrections are new rows', TG_TABLE_NAME
        USING ERRCODE = 'check_violation';
END $$
"""

# what was received for plans with a price of their own before the ledger; products are bought by orders
OPENING = """
INSERT INTO ledger (
    id, org_id, at, kind, acquisition_id, plan_id, tile, release, release_version, product, vendor,
    patches, area_km2, currency, amount
)
SELECT gen_random_uuid(), p.org_id, a.received_at, 'acquisition', r.acquisition_id, r.plan_id, r.tile,
    p.release, p.release_version, 'ad-hoc', '', bit_or(1 << r.patch), sum(r.area_km2),
    p.currency, sum(r.price)
FROM received_patches r
JOIN acquisitions a ON a.id = r.acquisition_id
JOIN plans p ON p.id = r.plan_id
WHERE p.currency IS NOT NULL AND coalesce(jsonb_typeof(p.product), 'null') = 'null'
    AND r.price IS NOT NULL AND NOT EXISTS (
    SELECT FROM received_patches earlier
    WHERE earlier.plan_id = r.plan_id AND earlier.tile = r.tile AND earlier.patch = r.patch
        AND earlier.received_in < r.received_in
)
GROUP BY
    p.org_id, a.received_at, r.acquisition_id, r.plan_id, r.tile, p.release, p.release_version, p.currency
"""


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("placed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("budget_id", sa.Uuid(), nullable=True),
        sa.Column("product", sa.String(length=300), nullable=False),
        sa.Column("vendor", sa.String(length=200), nullable=False),
        sa.Column("terms", postgresql.JSONB(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("area_km2", sa.Numeric(), nullable=False),
        sa.Column("charged_km2", sa.Numeric(), nullable=False),
        sa.Column("net", sa.Numeric(), nullable=False),
        sa.Column("fee", sa.Numeric(), nullable=False),
        sa.Column("unused_minimum", sa.Numeric(), nullable=False),
        sa.Column("rounding", sa.Numeric(), nullable=False),
        sa.Column("vat", sa.Numeric(), nullable=False),
        sa.Column("total", sa.Numeric(), nullable=False),
        sa.Column("nominal", sa.Numeric(), nullable=False),
        sa.Column("full_area_km2", sa.Numeric(), nullable=False),
        sa.Column("full_total", sa.Numeric(), nullable=False),
        sa.Column("full_nominal", sa.Numeric(), nullable=False),
        sa.Column("bound", sa.Numeric(), nullable=True),
        sa.Column("optimal", sa.Boolean(), nullable=False),
        sa.Column("dropped", postgresql.JSONB(), nullable=False),
        sa.Column("quote_total", sa.Numeric(), nullable=True),
        sa.Column("quoted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quote", postgresql.JSONB(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "state IN ('draft', 'quoted', 'placed', 'received', 'cancelled')",
            name=op.f("ck_orders_known_state"),
        ),
        sa.CheckConstraint(
            "(quote_total IS NULL) = (quoted_at IS NULL)", name=op.f("ck_orders_quote_has_time")
        ),
        sa.CheckConstraint(
            "total >= 0 AND (quote_total IS NULL OR quote_total >= 0)", name=op.f("ck_orders_not_negative")
        ),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_orders_org_id_organisations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_orders")),
        sa.UniqueConstraint("org_id", "idempotency_key", name=op.f("uq_orders_org_id_idempotency_key")),
    )
    op.create_index("ix_orders_page", "orders", ["org_id", "created_at", "id"], unique=False)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.ARRAY(sa.String(length=64)), nullable=False),
        sa.Column("description", sa.String(length=200), server_default="", nullable=False),
        sa.Column("secret", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_webhook_endpoints_org_id_organisations")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_page", "webhook_endpoints", ["org_id", "created_at", "id"], unique=False
    )
    op.create_table(
        "order_lines",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("geometry", postgresql.JSONB(), nullable=False),
        sa.Column("area_km2", sa.Numeric(), nullable=False),
        sa.Column("charged_km2", sa.Numeric(), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("patch_count", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_order_lines_order_id_orders"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("order_id", "line", name=op.f("pk_order_lines")),
    )
    op.create_table(
        "order_moves",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("here", sa.String(length=16), nullable=True),
        sa.Column("to", sa.String(length=16), nullable=False),
        sa.Column(
            "at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("key_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_order_moves_order_id_orders"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("order_id", "number", name=op.f("pk_order_moves")),
        sa.UniqueConstraint(
            "order_id", "idempotency_key", name=op.f("uq_order_moves_order_id_idempotency_key")
        ),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(state = 'waiting') = (finished_at IS NULL)", name=op.f("ck_webhook_deliveries_finished")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'delivered', 'given_up')", name=op.f("ck_webhook_deliveries_known_state")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"],
            ["webhook_endpoints.id"],
            name=op.f("fk_webhook_deliveries_endpoint_id_webhook_endpoints"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_deliveries")),
    )
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["next_try_at"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_index("ix_webhook_deliveries_page", "webhook_deliveries", ["endpoint_id", "id"], unique=False)
    op.create_table(
        "order_plans",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_order_plans_order_id_orders"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_order_plans_plan_id_plans")),
        sa.PrimaryKeyConstraint("order_id", "plan_id", name=op.f("pk_order_plans")),
    )
    op.create_index(op.f("ix_order_plans_plan_id"), "order_plans", ["plan_id"], unique=False)
    op.create_table(
        "order_tiles",
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("patches", sa.Integer(), nullable=False),
        sa.Column("chosen", sa.Integer(), nullable=False),
        sa.Column("area_km2", sa.Numeric(), nullable=False),
        sa.Column("nominal", sa.Numeric(), nullable=False),
        sa.Column("full_patches", sa.Integer(), nullable=False),
        sa.Column("full_area_km2", sa.Numeric(), nullable=False),
        sa.Column("full_total", sa.Numeric(), nullable=False),
        sa.Column("full_nominal", sa.Numeric(), nullable=False),
        sa.Column("lon", sa.Double(), nullable=False),
        sa.Column("lat", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("fk_order_tiles_order_id_orders"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_order_tiles_plan_id_plans")),
        sa.PrimaryKeyConstraint("order_id", "plan_id", "tile", name=op.f("pk_order_tiles")),
    )
    op.create_index("ix_order_tiles_tile", "order_tiles", ["plan_id", "tile"], unique=False)
    op.create_table(
        "ledger",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=True),
        sa.Column("acquisition_id", sa.Uuid(), nullable=True),
        sa.Column("corrects", sa.Uuid(), nullable=True),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("tile", sa.Integer(), nullable=True),
        sa.Column("lon", sa.Double(), nullable=True),
        sa.Column("lat", sa.Double(), nullable=True),
        sa.Column("release", sa.String(length=200), nullable=False),
        sa.Column("release_version", sa.String(length=200), nullable=False),
        sa.Column("product", sa.String(length=300), nullable=False),
        sa.Column("vendor", sa.String(length=200), nullable=False),
        sa.Column("patches", sa.Integer(), nullable=False),
        sa.Column("area_km2", sa.Numeric(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("amount", sa.Numeric(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("idempotency_key", sa.String(length=255), nullable=True),
        sa.CheckConstraint(
            "(corrects IS NOT NULL) = (kind IN ('reversal', 'correction'))", name=op.f("ck_ledger_corrects")
        ),
        sa.CheckConstraint(
            "(kind = 'acquisition') = (acquisition_id IS NOT NULL)", name=op.f("ck_ledger_acquisition")
        ),
        sa.CheckConstraint(
            "kind IN ('purchase', 'acquisition', 'delivery', 'reversal', 'correction')",
            name=op.f("ck_ledger_known_kind"),
        ),
        sa.CheckConstraint(
            "kind NOT IN ('purchase', 'delivery', 'reversal') OR order_id IS NOT NULL",
            name=op.f("ck_ledger_of_an_order"),
        ),
        sa.ForeignKeyConstraint(
            ["acquisition_id"], ["acquisitions.id"], name=op.f("fk_ledger_acquisition_id_acquisitions")
        ),
        sa.ForeignKeyConstraint(["corrects"], ["ledger.id"], name=op.f("fk_ledger_corrects_ledger")),
        sa.ForeignKeyConstraint(["order_id"], ["orders.id"], name=op.f("fk_ledger_order_id_orders")),
        sa.ForeignKeyConstraint(
            ["org_id"], ["organisations.id"], name=op.f("fk_ledger_org_id_organisations")
        ),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_ledger_plan_id_plans")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.create_index("ix_ledger_corrects", "ledger", ["corrects"], unique=False)
    op.create_index("ix_ledger_page", "ledger", ["org_id", "at", "id"], unique=False)
    op.create_index("ix_ledger_tile", "ledger", ["plan_id", "tile"], unique=False)
    op.create_index(
        "uq_ledger_acquisition",
        "ledger",
        ["acquisition_id", "tile"],
        unique=True,
        postgresql_where=sa.text("kind = 'acquisition'"),
    )
    op.create_index(
        "uq_ledger_order",
        "ledger",
        ["order_id", "plan_id", "tile", "kind"],
        unique=True,
        postgresql_where=sa.text("kind IN ('purchase', 'delivery', 'reversal')"),
        postgresql_nulls_not_distinct=True,
    )
    op.execute(ORDER_MOVES)
    op.execute(
        "CREATE TRIGGER order_moves_only BEFORE INSERT OR UPDATE ON orders"
        " FOR EACH ROW EXECUTE FUNCTION order_moves_only()"
    )
    op.execute(APPEND_ONLY)
    for table in ("ledger", "order_moves"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION append_only()"
        )
    op.execute(OPENING)


def downgrade() -> None:
    """Take back."""
    for table in (
        "ledger",
        "webhook_deliveries",
        "webhook_endpoints",
        "order_moves",
        "order_tiles",
        "order_lines",
        "order_plans",
        "orders",
    ):
        op.drop_table(table)
    op.execute("DROP FUNCTION append_only()")
    op.execute("DROP FUNCTION order_moves_only()")
