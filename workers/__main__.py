"""``python -m workers``: one worker process, in this process (nothing is forked, torch stays whole)."""

import sys
import warnings

from celery.platforms import SecurityWarning

from app.core.logs import configure_logging
from app.core.settings import get_settings
from workers.app import celery_app


def main(arguments: list[str]) -> None:
    """Run until SIGTERM or SIGINT; further arguments go to Celery's ``worker``."""
    # the messages hold no pickles, so root is no danger here; containers run as another user anyway
    warnings.filterwarnings("ignore", category=SecurityWarning)
    configure_logging()
    level = get_settings().log_level.lower()
    options = ["--pool", "threads", "--concurrency", "1", "--loglevel", level]
    options += ["--without-gossip", "--without-mingle", *arguments]
    celery_app.worker_main(["--quiet", "worker", *options])


if __name__ == "__main__":
    main(sys.argv[1:])
