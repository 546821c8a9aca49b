"""Every table of the service, imported in one place: for migrations, and for whoever walks the metadata."""

import app.acquisitions.tables
import app.classifications.tables
import app.core.auth
import app.datasets.tables
import app.labels.tables
import app.plans.tables  # noqa: F401
