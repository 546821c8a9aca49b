"""What a worker counts."""

from prometheus_client import Counter, Histogram

FORWARDS = Counter("patchplan_forwards_total", "Forwards through a network.", ["kind"])
FORWARD_ITEMS = Histogram(
    "patchplan_forward_tiles", "Tiles joined in one forward.", ["kind"], buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
WORK_DONE = Counter("patchplan_work_done_total", "Rows that were finished.", ["kind", "outcome"])
