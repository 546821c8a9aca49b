"""Which bands of a file are shown to the network."""

from collections.abc import Sequence

from app.core.errors import BadBands
from app.rasters.info import RasterInfo

ASSUMED = "bands_assumed"
RGB = ("red", "green", "blue")


def choose_bands(
    info: RasterInfo, wanted: Sequence[str] = RGB, requested: Sequence[int] | None = None
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """1-based band numbers in the order of ``wanted`` (band names of a release), and warnings.

    The request wins; else the colour interpretation; else the first bands with the warning
    ``bands_assumed``. Raises BadBands where the numbers do not exist or bands are too few.
    """
    if requested is not None:
        return _requested(info, wanted, requested), ()
    named = {name: number for number, name in reversed(list(enumerate(info.colorinterp, 1)))}
    if all(name in named for name in wanted):
        return tuple(named[name] for name in wanted), ()
    usable = [number for number in range(1, info.count + 1) if number != info.alpha]
    if len(usable) < len(wanted):
        raise BadBands(
            f"The release needs {len(wanted)} bands ({', '.join(wanted)}), the raster has {len(usable)}. "
            f"A single band can be used on purpose with bands={','.join(['1'] * len(wanted))}.",
            bands=len(usable),
        )
    return tuple(usable[: len(wanted)]), (ASSUMED,)


def _requested(info: RasterInfo, wanted: Sequence[str], requested: Sequence[int]) -> tuple[int, ...]:
    if len(requested) != len(wanted):
        raise BadBands(f"bands must hold {len(wanted)} numbers, for {', '.join(wanted)}.")
    missing = [number for number in requested if not 1 <= number <= info.count]
    if missing:
        raise BadBands(f"The raster has bands 1 to {info.count}; asked for {', '.join(map(str, missing))}.")
    return tuple(requested)
