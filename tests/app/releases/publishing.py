"""Releases of an organisation, data sets and plans for tests, made as a worker makes them."""

import hashlib
import io
import tarfile
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sqlalchemy import select

from app.core.auth import Organisation
from app.core.db import session_scope
from app.core.store import get_store
from app.core.work import WorkStatus, uuid7
from app.datasets.tables import Dataset, snapshot_key
from app.releases.tables import ReleaseRow
from models.card import CARD_FILE, load_card
from models.data.degrade import low_resolution
from models.release import Release, tiny_release
from workers.publishing import publish

CLASSES = ["field", "forest", "harbor"]


def org_id(name: str = "acme") -> uuid.UUID:
    """The organisation's id."""
    with session_scope() as session:
        return session.scalars(select(Organisation.id).where(Organisation.name == name)).one()


def tiny_folder(
    folder: Path,
    classes: list[str] | None = None,
    seed: int = 0,
    threshold: float = 0.5,
    streams: str = "hr+lr",
    training: dict[str, Any] | None = None,
) -> Path:
    """An untrained release as training leaves it."""
    tiny_release(folder, classes or CLASSES, seed=seed, streams=streams)
    card = replace(load_card(folder), threshold=threshold, training=training or {})
    (folder / CARD_FILE).write_text(card.to_json())
    return folder


def published(
    folder: Path,
    name: str = "mine",
    *,
    org: str = "acme",
    classes: list[str] | None = None,
    seed: int = 0,
    threshold: float = 0.5,
    run: uuid.UUID | None = None,
    dataset: uuid.UUID | None = None,
    training: dict[str, Any] | None = None,
) -> ReleaseRow:
    """An untrained release of an organisation; a threshold near 1 buys nothing, 0 buys all."""
    place = tiny_folder(folder / f"{name}-{seed}-{threshold}", classes, seed, threshold, training=training)
    with session_scope() as session:
        return publish(
            session, org_id=org_id(org), name=name, folder=place, training_run_id=run, dataset_id=dataset
        )


def scenes(n: int = 120, seed: int = 0) -> NDArray[np.uint8]:
    """Drawn stripes of all colours, (n, 3, 32, 32)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:32, 0:32]
    found = []
    for _ in range(n):
        across, along = rng.integers(1, 6), rng.integers(0, 6)
        stripes = np.sin((columns * across + rows * along) * 2 * np.pi / 32 + rng.uniform(0, 6))
        light = rng.uniform(0, 255, (3, 1, 1)) + rng.uniform(0, 100) * stripes + rng.normal(0, 5, (3, 32, 32))
        found.append(np.clip(light, 0, 255).astype(np.uint8))
    return np.stack(found)


def labelled_by(folder: Path, seed: int, n: int = 120) -> dict[str, bytes]:
    """Pictures in train/ and test/ class folders, each in the class that an untrained release gives it by LR.

    So there is a release that is right about every picture; another seed's is right about some.
    """
    images = scenes(n)
    release = Release.load(tiny_folder(folder / f"labels-{seed}", seed=seed))
    lr = low_resolution(torch.from_numpy(images).float(), 4, release.card.lr_px).numpy()
    said = release.classify(lr, images, np.zeros((n, 16), bool)).fused.argmax(axis=1)
    files = {}
    for number, (image, label) in enumerate(zip(images, said, strict=True)):
        png = io.BytesIO()
        Image.fromarray(image.transpose(1, 2, 0)).save(png, "PNG")
        part = "train" if number % 4 == 0 else "test"
        files[f"{part}/{CLASSES[label]}/{number:03}.png"] = png.getvalue()
    return files


def tarred(files: dict[str, bytes]) -> bytes:
    """The files as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def kept_dataset(files: dict[str, bytes], org: str = "acme") -> uuid.UUID:
    """A data set that was read already."""
    content = tarred(files)
    row_id = uuid7()
    key = snapshot_key(row_id, 1)
    get_store().put(key, content)
    with session_scope() as session:
        now = datetime.now(UTC)
        session.add(
            Dataset(
                id=row_id,
                org_id=org_id(org),
                status=WorkStatus.READY,
                started_at=now,
                finished_at=now,
                name="drawn",
                origin="upload",
                request={},
                content_sha256=hashlib.sha256(content).hexdigest(),
                snapshot_key=key,
                snapshot_bytes=len(content),
                form="folders",
                classes=sorted({name.split("/")[1] for name in files}),
                n_pictures=len(files),
            )
        )
    return row_id
