"""``python -m workers``: one worker process, in this process (nothing is forked, torch stays whole)."""

import argparse
import sys
import warnings

from celery.platforms import SecurityWarning

from app.core.logs import configure_logging
from app.core.queue import QUEUE, TRAINING_QUEUE
from app.core.settings import SettingsError, check_served, get_settings
from workers.app import celery_app


def main(arguments: list[str]) -> None:
    """Run until SIGTERM or SIGINT; ``--queue training`` trains, other arguments go to Celery's ``worker``.

    Raises SettingsError without a database or a broker.
    """
    parser = argparse.ArgumentParser(
        prog="patchplan worker",
        description="One worker, until SIGTERM or Ctrl-C, against the configured database and broker.",
        epilog="Further options are those of Celery's worker: `celery worker --help` has them.",
        allow_abbrev=False,
    )
    what = f"{QUEUE}: all that clients wait for (the default); {TRAINING_QUEUE}: training runs alone"
    parser.add_argument("--queue", choices=(QUEUE, TRAINING_QUEUE), default=QUEUE, help=what)
    known, others = parser.parse_known_args(arguments)
    check_served()
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
    try:
        main(sys.argv[1:])
    except SettingsError as error:
        sys.exit(f"patchplan worker: {error}")
