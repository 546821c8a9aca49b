"""Datasets out of an S3 bucket: obstore over HTTP against a small server of lists and objects."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest

from app.core.errors import SourceUnreadable
from tests.archives import folders, tar, zipped
from tests.workers.reading.reader import read_archive
from workers.objects import copy_url

FILES = folders()
OBJECTS = {
    **{f"images/set/{name}": content for name, content in FILES.items()},
    "images/set-b/other.txt": b"of another prefix",
    "images/packed.zip": zipped(FILES),
}


class _Bucket(BaseHTTPRequestHandler):
    """``GET /bucket?list-type=2&prefix=`` and ``GET /bucket/KEY``."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        key = unquote(url.path).removeprefix("/bucket").strip("/")
        if not key:
            self._send(200, _listing(parse_qs(url.query).get("prefix", [""])[0]))
        elif key in OBJECTS:
            self._send(200, OBJECTS[key])
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Sun, 22 Nov 2026 12:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _listing(prefix: str) -> bytes:
    contents = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-22T12:00:00.000Z</LastModified>"
        f'<ETag>"x"</ETag><Size>{len(data)}</Size></Contents>'
        for key, data in sorted(OBJECTS.items())
        if key.startswith(prefix)
    )
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>".encode()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Bucket)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name, value in (
        ("AWS_ENDPOINT", f"http://127.0.0.1:{server.server_port}"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_SKIP_SIGNATURE", "true"),
        ("AWS_REGION", "eu-central-1"),
    ):
        monkeypatch.setenv(name, value)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize(
    "url", ["s3://bucket/images/set", "s3://bucket/images/set/", "s3://bucket/images/packed.zip"]
)
def test_a_prefix_or_an_archive_in_a_bucket(tmp_path: Path, url: str) -> None:
    path = tmp_path / "copied"
    for _ in copy_url(url, path, 10**8, 100):
        pass
    expected = read_archive(tmp_path, tar(FILES))["content_sha256"]
    assert read_archive(tmp_path, path.read_bytes())["content_sha256"] == expected


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("url", ["s3://bucket/images/none", "s3://bucket/images/none.tar"])
def test_nothing_there(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceUnreadable):
        for _ in copy_url(url, tmp_path / "copied", 10**8, 100):
            pass
