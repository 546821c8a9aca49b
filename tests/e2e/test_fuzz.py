"""Every route against generated requests: whatever comes, the service answers without breaking."""

import re
import subprocess
import sys

from tests.conftest import Live

# these wait for work that never ends
ENDLESS = "events"


def test_no_request_breaks_a_route(live: Live) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("run", f"{live.url}/openapi.json", "-H", f"Authorization: Bearer {live.new_key()}"),
            *("--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", "8"),
            *("--seed", "1", "--workers", "2", "--request-timeout", "30", "--no-color"),
            *("--exclude-path-regex", ENDLESS),
        ],
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    selected, tested = (re.search(rf"{word}: (\d+)", done.stdout) for word in ("Selected", "Tested"))
    assert selected is not None
    assert tested is not None
    assert int(tested[1]) == int(selected[1]) > 50
