"""Uploads: multipart bodies written to disk as they arrive, and stopped the moment they are too large."""

import hashlib
import json
import re
import shutil
import tempfile
import unicodedata
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import IO, Any

from fastapi import Request
from pydantic import BaseModel
from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.core.bodies import allow
from app.core.errors import BadRequest, PayloadTooLarge, Unprocessable, UnsupportedMedia
from app.core.settings import get_settings

MAX_HEADER_BYTES = 8 * 1024
MAX_FIELDS = 64
NAME_LENGTH = 120


@dataclass(frozen=True)
class ReceivedFile:
    """One uploaded file, on disk until the ``receive`` block ends.

    ``name`` is the client's, made harmless: for showing, never for a path.
    """

    field: str
    name: str
    content_type: str
    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """What a multipart body held."""

    fields: dict[str, str]
    files: list[ReceivedFile]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the meaning of the body: the same for a retry whose multipart boundary differs."""
        content = [sorted(self.fields.items()), [(file.field, file.sha256) for file in self.files]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def files_of(self, name: str) -> list[ReceivedFile]:
        """The files sent under the form field ``name``, in the order sent."""
        return [file for file in self.files if file.field == name]

    def only_file(self, name: str) -> ReceivedFile:
        """The one file sent under ``name``; raises Unprocessable for none or several."""
        found = self.files_of(name)
        if len(found) != 1:
            raise field_error(name, f"Send exactly one file as `{name}`; {len(found)} came.")
        return found[0]


def field_error(name: str, detail: str) -> Unprocessable:
    """The 422 for one form field, in the shape validation errors have everywhere."""
    return Unprocessable(detail, errors=[{"loc": ["body", name], "detail": detail}])


def safe_name(name: str, fallback: str = "upload") -> str:
    """A client's file name without folders, control characters or tricks of direction; never empty."""
    base = re.split(r"[/\\]", name)[-1]
    kept = "".join(c for c in unicodedata.normalize("NFC", base) if unicodedata.category(c)[0] != "C")
    return kept.strip().strip(".").strip()[:NAME_LENGTH] or fallback


@asynccontextmanager
async def receive(
    request: Request,
    *,
    file_fields: Collection[str],
    text_fields: Collection[str] = (),
    max_bytes: int | None = None,
) -> AsyncIterator[Upload]:
    """Read a multipart body; its files lie on disk until the block ends, however it ends.

    Names outside ``file_fields`` and ``text_fields`` are refused, as is a text field sent twice.
    ``max_bytes`` counts the whole body (default ``max_upload_bytes``). Raises UnsupportedMedia, BadRequest,
    PayloadTooLarge (reading stops there), Unprocessable.
    """
    settings = get_settings()
    boundary = _boundary(request)
    allow(request, settings.max_upload_bytes if max_bytes is None else max_bytes)
    settings.spool_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="upload-", dir=settings.spool_dir))
    parts = _Parts(folder, frozenset(file_fields), frozenset(text_fields))
    try:
        await _read(request, boundary, parts)
        yield Upload(parts.fields, parts.files)
    finally:
        parts.close()
        shutil.rmtree(folder, ignore_errors=True)


def text_properties(form: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    """The text fields a pydantic model reads, as JSON Schema properties for ``multipart_body``.

    ``examples`` has one for each field, as text.
    """
    return {
        name: {"type": "string", "description": field.description or name, "examples": [examples[name]]}
        for name, field in form.model_fields.items()
    }


def multipart_body(properties: dict[str, Any], required: Collection[str] = ()) -> dict[str, Any]:
    """``openapi_extra`` for a route that uses ``receive``: the form as JSON Schema properties.

    The body's example is put together from the ``examples`` of the properties.
    """
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    content = {"schema": schema, "example": _form_example(properties)}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": content}}}


def _form_example(properties: dict[str, Any]) -> dict[str, Any]:
    example: dict[str, Any] = {}
    for name, schema in properties.items():
        if schema.get("format") == "binary":
            example[name] = "(the bytes of a GeoTIFF)"
        elif schema.get("items", {}).get("format") == "binary":
            example[name] = ["(the bytes of a GeoTIFF)"]
        elif "examples" in schema:
            example[name] = schema["examples"][0]
    return example


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data":
        raise UnsupportedMedia("Send the body as multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not boundary or len(boundary) > 256:
        raise BadRequest("The Content-Type names no usable multipart boundary.")
    return boundary


async def _read(request: Request, boundary: bytes, parts: "_Parts") -> None:
    parser = MultipartParser(boundary, parts.callbacks(), max_header_size=MAX_HEADER_BYTES)
    try:
        async for chunk in request.stream():
            await run_in_threadpool(parser.write, chunk)
        await run_in_threadpool(parser.finalize)
    except MultipartParseError as error:
        raise BadRequest(f"The multipart body cannot be read: {error}") from error
    except ClientDisconnect as error:
        raise BadRequest("The client went away before the body was complete.") from error
    if not parts.complete:
        raise BadRequest("The multipart body ends before its last boundary.")


@dataclass
class _Part:
    field: str
    text: bytearray | None = None
    name: str = ""
    content_type: str = ""
    path: Path | None = None
    file: IO[bytes] | None = None
    size: int = 0
    hash: Any = dataclass_field(default_factory=hashlib.sha256)


class _Parts:
    """Takes the parser's callbacks apart into fields and files."""

    def __init__(self, folder: Path, file_fields: frozenset[str], text_fields: frozenset[str]) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[ReceivedFile] = []
        self.complete = False
        self._folder = folder
        self._file_fields = file_fields
        self._text_fields = text_fields
        self._settings = get_settings()
        self._headers: dict[str, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._part: _Part | None = None

    def callbacks(self) -> Any:
        """The table python-multipart wants."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._name_piece,
            "on_header_value": self._value_piece,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._all_done,
        }

    def close(self) -> None:
        """Close the file of a part that was cut short."""
        if self._part is not None and self._part.file is not None:
            self._part.file.close()

    def _begin(self) -> None:
        self._headers = {}
        self._header_name = self._header_value = b""

    def _name_piece(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _value_piece(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header_name.decode("latin-1").lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get("content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise BadRequest("A part of the multipart body has no form field name.")
        name = _decode(options[b"name"])
        if b"filename" in options:
            self._part = self._open_file(name, _decode(options[b"filename"]))
        else:
            self._part = self._open_text(name)

    def _open_file(self, name: str, filename: str) -> _Part:
        if name not in self._file_fields:
            raise field_error(safe_name(name), _unknown(name, self._file_fields, "file"))
        if len(self.files) >= self._settings.max_upload_files:
            raise PayloadTooLarge(f"More than {self._settings.max_upload_files} files in one request.")
        path = self._folder / f"{len(self.files):05d}"
        kind = self._headers.get("content-type", b"").decode("latin-1")
        return _Part(name, name=safe_name(filename), content_type=kind, path=path, file=path.open("wb"))

    def _open_text(self, name: str) -> _Part:
        if name not in self._text_fields:
            wanted = "must be sent as a file (with a filename)" if name in self._file_fields else ""
            detail = f"`{name}` {wanted}." if wanted else _unknown(name, self._text_fields, "field")
            raise field_error(safe_name(name), detail)
        if name in self.fields or len(self.fields) >= MAX_FIELDS:
            raise field_error(name, f"`{name}` was sent more than once.")
        return _Part(name, text=bytearray())

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part is None:
            return
        piece = data[start:end]
        part.size += len(piece)
        if part.file is not None:
            part.file.write(piece)
            part.hash.update(piece)
        elif part.text is not None:
            if part.size > self._settings.max_field_bytes:
                raise field_error(
                    part.field, f"`{part.field}` is over {self._settings.max_field_bytes} bytes."
                )
            part.text += piece

    def _end(self) -> None:
        part, self._part = self._part, None
        if part is None:
            return
        if part.file is not None and part.path is not None:
            part.file.close()
            self.files.append(
                ReceivedFile(
                    part.field, part.name, part.content_type, part.path, part.size, part.hash.hexdigest()
                )
            )
        elif part.text is not None:
            self.fields[part.field] = _text(part.field, bytes(part.text))

    def _all_done(self) -> None:
        self.complete = True


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _text(name: str, raw: bytes) -> str:
    try:
        value = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise field_error(name, f"`{name}` is not UTF-8 text.") from error
    if "\x00" in value:
        raise field_error(name, f"`{name}` holds a NUL character.")
    return value


def _unknown(name: str, known: frozenset[str], what: str) -> str:
    return f"There is no {what} `{safe_name(name)}` here; known: {', '.join(sorted(known)) or 'none'}."
