"""Every table of the service, imported in one place: for migrations, and for whoever walks the metadata."""

import app.acquisitions.tables
import app.budgets.tables
import app.classifications.tables
import app.core.auth
import app.core.marker
import app.datasets.tables
import app.labels.tables
import app.ledger.tables
import app.orders.tables
import app.plans.tables
import app.pricing.tables
import app.releases.tables
import app.training.tables
import app.webhooks.tables  # noqa: F401
