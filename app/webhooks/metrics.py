"""What the database tells of webhooks at each scrape: deliveries by state, how late the latest is."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.core.db import session_scope
from app.webhooks.tables import DeliveryState, WebhookDelivery


class WebhookCollector(Collector):
    """Counts webhook deliveries by state, and finds the one that is most overdue."""

    def collect(self) -> Iterator[Metric]:
        """The gauges; absent while the database is down."""
        rows = GaugeMetricFamily(
            "patchplan_webhook_deliveries", "Webhook deliveries by state.", labels=["state"]
        )
        overdue = GaugeMetricFamily(
            "patchplan_webhook_overdue_seconds", "How long the delivery that waits longest has been due."
        )
        late = func.extract("epoch", func.clock_timestamp() - func.min(WebhookDelivery.next_try_at))
        try:
            with session_scope() as session:
                state = WebhookDelivery.state
                counts = dict(session.execute(select(state, func.count()).group_by(state)).all())
                waiting = state == DeliveryState.WAITING
                seconds = session.scalar(select(late).where(waiting))
        except SQLAlchemyError:
            return
        for each in DeliveryState:
            rows.add_metric([each], counts.get(each, 0))
        overdue.add_metric([], max(0.0, float(seconds or 0)))
        yield rows
        yield overdue
