"""The one table of errors a client can meet, as RFC 9457 problem details.

Code raises a ``ProblemError`` subclass; one handler in ``app.core.problems`` turns it, and everything the
framework itself refuses, into ``application/problem+json``. ``type`` is ``/problems/<slug>``, which the
service answers with the class's own docstring.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"


class ProblemError(Exception):
    """An error a client is told about.

    ``detail`` says what is wrong with this very request and how to put it right; ``extra`` holds members
    added to the document (RFC 9457, section 3.2).
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.extra = extra

    def document(self, instance: str | None = None) -> dict[str, Any]:
        """The problem document; ``instance`` is the path of the request."""
        return problem_document(self.status, self.slug, self.title, self.detail, instance, **self.extra)


def problem_document(
    status: int, slug: str, title: str, detail: str, instance: str | None = None, **extra: Any
) -> dict[str, Any]:
    """A problem document's members in the order of RFC 9457, section 3.1."""
    document: dict[str, Any] = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
    }
    if instance is not None:
        document["instance"] = instance
    return document | extra


def every_problem() -> Iterator[type[ProblemError]]:
    """All classes of this table, each once, in the order they are written."""
    waiting = ProblemError.__subclasses__()
    while waiting:
        problem = waiting.pop(0)
        yield problem
        waiting.extend(problem.__subclasses__())


class Internal(ProblemError):
    """Something broke on our side. The request id in the answer finds it in the log."""


class BadRequest(ProblemError):
    """The request could not be read as HTTP, multipart or JSON."""

    status, slug, title = 400, "bad-request", "Bad request"


class Unauthorized(ProblemError):
    """There is no API key, or it is unknown or revoked."""

    status, slug, title = 401, "unauthorized", "API key needed"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": 'Bearer realm="patchplan"'}


class Forbidden(ProblemError):
    """The API key is good but lacks the scope this call asks for."""

    status, slug, title = 403, "forbidden", "Scope missing"


class NotFound(ProblemError):
    """There is nothing here, or it belongs to another organisation."""

    status, slug, title = 404, "not-found", "Not found"


class MethodNotAllowed(ProblemError):
    """The path exists, the method does not. ``Allow`` lists those that do."""

    status, slug, title = 405, "method-not-allowed", "Method not allowed"


class NotAcceptable(ProblemError):
    """None of the media types in ``Accept`` can be given."""

    status, slug, title = 406, "not-acceptable", "Not acceptable"


class Conflict(ProblemError):
    """The request contradicts what is already kept."""

    status, slug, title = 409, "conflict", "Conflict"


class IdempotencyInFlight(ProblemError):
    """A request with the same ``Idempotency-Key`` is still being worked on. Ask again shortly."""

    status, slug, title = 409, "idempotency-in-flight", "Same request still in flight"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class PayloadTooLarge(ProblemError):
    """The request body is over the limit; reading stopped there and nothing was kept."""

    status, slug, title = 413, "payload-too-large", "Request body too large"


class UnsupportedMedia(ProblemError):
    """The body's media type is not one this call reads."""

    status, slug, title = 415, "unsupported-media", "Unsupported media type"


class Unprocessable(ProblemError):
    """The request was read, but a value in it is out of range or makes no sense. See ``errors``."""

    status, slug, title = 422, "unprocessable", "Values refused"


class IdempotencyMismatch(ProblemError):
    """The ``Idempotency-Key`` was used before with another body."""

    status, slug, title = 422, "idempotency-mismatch", "Idempotency key reused"


class ServiceUnavailable(ProblemError):
    """A part the service needs (database, store, worker) does not answer right now."""

    status, slug, title = 503, "service-unavailable", "Service unavailable"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "2"}


class TooManyDrafts(ServiceUnavailable):
    """As many orders are being drafted as can be at once. ``Retry-After`` says when to come back."""

    slug, title = "too-many-drafts", "Too many drafts at once"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "10"}


class PatchConflict(Conflict):
    """Other pixels were received for these patches before; ``replace=true`` puts the new ones there."""

    slug, title = "patch-conflict", "Patch already received"


class PatchesRefused(Unprocessable):
    """None of the files holds a patch of the plan that could be taken; ``refused`` gives each reason."""

    slug, title = "patches-refused", "No patch taken"


class WorkAbandoned(ProblemError):
    """The work was started several times and never finished: a worker died on it each time.

    Or what the work needs, as the object store, was away for longer than a day.
    """

    status, slug, title = 500, "work-abandoned", "Work given up"


class PixelsLost(ProblemError):
    """The object store no longer has pixels that were kept: asking again does not help, sending them does.

    Of a plan's LR raster: post it as a new plan. Of an acquisition (``acquisition_id``): send the file with
    this ``file_sha256`` to the plan again, with the fields in ``form`` (null: not noted), which puts its
    patches back; what was replaced since stays replaced.
    """

    status, slug, title = 500, "pixels-lost", "Pixels lost"


class ReleaseLost(ProblemError):
    """The object store no longer has the weights of ``release``: asking again does not help.

    Name another release, or move the alias that named this one. Who runs the service puts the weights back
    from a backup (``weights_sha256``); a new training run makes another release.
    """

    status, slug, title = 500, "release-lost", "Release lost"


class DatasetLost(ProblemError):
    """The object store no longer has the snapshot of a dataset: asking again does not help, sending it does.

    The same pictures, sent again as a dataset, are put back under the old one (``dataset_id``); then runs can
    be resumed and comparisons asked for again.
    """

    status, slug, title = 500, "dataset-lost", "Dataset lost"


class OrderMoveRefused(Conflict):
    """The order's state does not allow this move; ``moves`` lists those that are possible."""

    slug, title = "order-move-refused", "Move not possible"


class NothingToOrder(Unprocessable):
    """No patch is to be bought, none is worth ordering by the product's rules, or all were received or are in
    orders that were placed; then ``left_out`` counts both.
    """

    slug, title = "nothing-to-order", "Nothing to order"


class NoExchangeRate(Unprocessable):
    """An amount is in another currency, and no rate for it was given that is old enough."""

    slug, title = "no-exchange-rate", "Exchange rate missing"


class WebhookUrlRefused(Unprocessable):
    """The webhook's address is none that this service may send to."""

    slug, title = "webhook-url-refused", "Webhook address refused"


# --- rasters -------------------------------------------------------------------------------------------


class RasterRefused(Unprocessable):
    """The file cannot be used as imagery. The subclasses say why, one reason each."""

    slug, title = "raster-refused", "Raster refused"


class NotATiff(RasterRefused):
    """The bytes are not a TIFF or BigTIFF. Other formats, VRT among them, are never opened."""

    slug, title = "not-a-tiff", "Not a GeoTIFF"


class TruncatedRaster(RasterRefused):
    """Part of the file is missing or damaged: some of its blocks cannot be read."""

    slug, title = "truncated-raster", "Raster truncated or damaged"


class NoCrs(RasterRefused):
    """The raster does not say where on the ground it lies: no CRS, or only control points or RPCs."""

    slug, title = "no-crs", "Raster without a place on the ground"


class CrsNotEarth(RasterRefused):
    """The CRS is local, geocentric, vertical or of another planet."""

    slug, title = "crs-not-earth", "CRS not bound to the Earth's surface"


class BadBands(RasterRefused):
    """The raster lacks the bands asked for, or its one band holds palette numbers and not light."""

    slug, title = "bad-bands", "Wrong bands"


class BadDtype(RasterRefused):
    """The pixel type is complex, or one that cannot be read as numbers."""

    slug, title = "bad-dtype", "Pixel type refused"


class NoValidPixels(RasterRefused):
    """Every pixel is nodata, masked, NaN or infinite."""

    slug, title = "no-valid-pixels", "No valid pixels"


class RasterTooSmall(RasterRefused):
    """The raster has fewer pixels than the grid has cells."""

    slug, title = "raster-too-small", "Raster too small"


class RasterTooLarge(RasterRefused):
    """The raster, its blocks or its number of tiles are over this service's limits."""

    slug, title = "raster-too-large", "Raster too large"


class DecompressionBomb(RasterRefused):
    """The file would unpack to far more than its bytes can honestly hold, or took too long to unpack."""

    slug, title = "decompression-bomb", "Raster unpacks to too much"


class BadGeotransform(RasterRefused):
    """The geotransform is missing, singular, sheared, not finite, or leaves the Earth."""

    slug, title = "bad-geotransform", "Geotransform refused"


class BadValues(RasterRefused):
    """The scale, offset or band numbers of the request or the raster cannot be used."""

    slug, title = "bad-values", "Values refused"


# --- money ---------------------------------------------------------------------------------------------


class PriceListRefused(Unprocessable):
    """The price list cannot be used: a price is missing or negative, a currency unknown. See ``errors``."""

    slug, title = "price-list-refused", "Price list refused"


class UnmeetableRules(PriceListRefused):
    """No polygon can meet the product's geometry rules."""

    slug, title = "unmeetable-rules", "Rules no polygon can meet"


class UnknownProduct(Unprocessable):
    """There is no such product in your organisation's price lists or in the shipped examples."""

    slug, title = "unknown-product", "Unknown product"


class PriceListExpired(Unprocessable):
    """The product's prices do not hold on this day: the list has expired or is not valid yet."""

    slug, title = "price-list-expired", "Price list not valid today"


class BudgetTooSmall(Unprocessable):
    """The budget is under what the smallest order of the product costs; ``smallest_order`` says how much."""

    slug, title = "budget-too-small", "Budget under the smallest order"


class AreaRefused(Unprocessable):
    """An area is no GeoJSON polygon that can be used: it crosses itself, or the antimeridian uncut."""

    slug, title = "area-refused", "Area refused"


# --- training ------------------------------------------------------------------------------------------


class RecipeRefused(Unprocessable):
    """The recipe has an unknown field or one out of range, or the run's stages do not go with it."""

    slug, title = "recipe-refused", "Recipe refused"


class TrainingDataRefused(Unprocessable):
    """The dataset cannot be trained on by this recipe, or its classes are not those of the parent."""

    slug, title = "training-data-refused", "Dataset cannot be trained on"


class RunMoveRefused(Conflict):
    """The training run's state does not allow this move; ``moves`` lists those that are possible."""

    slug, title = "run-move-refused", "Move not possible"


class DiskFull(ProblemError):
    """There was no room left where the trainer writes. The last checkpoint is kept: make room and resume."""

    status, slug, title = 507, "disk-full", "Disk full"


class TrainingFailed(ProblemError):
    """The trainer broke off for a reason that trying again does not cure."""

    status, slug, title = 500, "training-failed", "Training failed"


# --- datasets ------------------------------------------------------------------------------------------


class DatasetRefused(Unprocessable):
    """These pictures cannot be used as a dataset. The subclasses say why, one reason each."""

    slug, title = "dataset-refused", "Dataset refused"


class SourceNotAllowed(DatasetRefused):
    """The address is not below a folder or URL that this server's operator has opened for datasets."""

    slug, title = "source-not-allowed", "Source not allowed"


class SourceUnreadable(DatasetRefused):
    """There is nothing to read at the address, or the server may not read it."""

    slug, title = "source-unreadable", "Source cannot be read"


class ArchiveRefused(DatasetRefused):
    """The upload is no tar, tar.gz or zip, or it is cut short, damaged or encrypted."""

    slug, title = "archive-refused", "Archive refused"


class UnsafeNames(DatasetRefused):
    """A file is named by an absolute path, climbs out with ``..``, is a link or device, or is there twice."""

    slug, title = "unsafe-names", "Unsafe file names"


class DatasetTooLarge(DatasetRefused):
    """There are more files or bytes, packed or unpacked, than this server reads as one dataset."""

    slug, title = "dataset-too-large", "Dataset too large"


class ArchiveBomb(DatasetRefused):
    """The archive would unpack to far more than its bytes can honestly hold."""

    slug, title = "archive-bomb", "Archive unpacks to too much"


class UnknownLayout(DatasetRefused):
    """The files are neither class folders, nor an fMoW tree, nor listed with labels by a CSV or GeoJSON."""

    slug, title = "unknown-layout", "Layout not recognised"


class UnknownLabels(DatasetRefused):
    """There are classes that are not among those asked for, or that cannot be the name of a class."""

    slug, title = "unknown-labels", "Unknown labels"


class MissingPictures(DatasetRefused):
    """The list names pictures that are not there."""

    slug, title = "missing-pictures", "Pictures missing"


class UnreadablePictures(DatasetRefused):
    """More pictures than ``max_unreadable`` cannot be decoded; ``unreadable`` says which, and why."""

    slug, title = "unreadable-pictures", "Too many unreadable pictures"


class OneClass(DatasetRefused):
    """All pictures are of one class; a classifier needs two."""

    slug, title = "one-class", "Only one class"


class EmptyClasses(DatasetRefused):
    """There are classes without a picture, or without one to learn from."""

    slug, title = "empty-classes", "Classes without pictures"


class MixedBands(DatasetRefused):
    """The pictures differ in their number of bands; ``mixed_bands`` allows it."""

    slug, title = "mixed-bands", "Mixed numbers of bands"


class LeakingSplits(DatasetRefused):
    """The same picture is in more than one split, so that held-out figures would be too good."""

    slug, title = "leaking-splits", "Splits leak"


# --- releases ------------------------------------------------------------------------------------------


class PreconditionFailed(ProblemError):
    """What is kept has another version than ``If-Match`` names: somebody was faster. Read it again."""

    status, slug, title = 412, "precondition-failed", "Changed since it was read"


class ReleaseReplaced(Conflict):
    """Another release lies by now under the name of the installed one that a plan was made with.

    The plan is not answered by it unawares: name a ``release`` in the call, the new one too, or plan anew.
    """

    slug, title = "release-replaced", "Release replaced"


class ClassesDiffer(Unprocessable):
    """The classes do not match: ``lacks`` and ``adds`` name those that one side has and the other has not."""

    slug, title = "classes-differ", "Classes do not match"


class NothingHeldOut(Unprocessable):
    """There are no images to measure on that the release has not learned from. Name another ``dataset``."""

    slug, title = "nothing-held-out", "No held-out images"


class PromotionRefused(Conflict):
    """The candidate is significantly less accurate or more expensive than the champion; ``gate`` says where.

    ``force`` with a ``reason`` promotes it all the same, and is recorded.
    """

    slug, title = "promotion-refused", "Worse than the champion"


class GateUndecided(Conflict):
    """The candidate is still being compared with the champion, or could not be. ``comparison`` is where."""

    slug, title = "gate-undecided", "Not yet compared with the champion"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "10"}
