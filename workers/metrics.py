"""What a worker counts, and where it tells it."""

import structlog
from prometheus_client import Counter, Histogram, start_http_server

log = structlog.get_logger(__name__)

FORWARDS = Counter("patchplan_forwards_total", "Forwards through a network.", ["kind"])
FORWARD_ITEMS = Histogram(
    "patchplan_forward_tiles", "Tiles joined in one forward.", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
WORK_DONE = Counter("patchplan_work_done_total", "Rows that were finished.", ["kind", "outcome"])


def serve_metrics(port: int | None) -> None:
    """Answer ``GET /metrics`` on ``port`` of all addresses from a thread; None is nowhere. Never raises.

    Where another worker has the port already, the log says so and the work goes on.
    """
    if port is None:
        return
    try:
        start_http_server(port)
    except OSError as error:
        log.warning("metrics_not_served", port=port, error=str(error))
