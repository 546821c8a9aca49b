"""``python -m workers``: one worker process, in this process (nothing is forked, torch stays whole)."""

import argparse
import sys
import warnings

from celery.platforms import SecurityWarning

from app.core.logs import configure_logging
from app.core.queue import QUEUE, TRAINING_QUEUE
from app.core.settings import get_settings
from workers.app import celery_app


def main(arguments: list[str]) -> None:
    """Run until SIGTERM or SIGINT; ``--queue training`` trains, other arguments go to Celery's ``worker``."""
    parser = argparse.ArgumentParser(prog="patchplan worker", add_help=False, allow_abbrev=False)
    parser.add_argument("--queue", choices=(QUEUE, TRAINING_QUEUE), default=QUEUE)
    known, others = parser.parse_known_args(arguments)
    # the messages hold no pickles, so root is no danger here; containers run as another user anyway
    warnings.filterwarnings("ignore", category=SecurityWarning)
    configure_logging()
    level = get_settings().log_level.lower()
    options = ["--pool", "threads", "--concurrency", "1", "--loglevel", level]
    options += ["--without-gossip", "--without-mingle"]
    celery_app.conf.task_default_queue = known.queue
    if known.queue == TRAINING_QUEUE:
        # a name of its own: health checks ask after the workers that answer clients
        options += ["--hostname", f"{TRAINING_QUEUE}@%h"]
    celery_app.worker_main(["--quiet", "worker", *options, *others])


if __name__ == "__main__":
    main(sys.argv[1:])
