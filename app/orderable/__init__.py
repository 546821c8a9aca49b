"""Orderable geometry: from patches that should be bought to polygons that a vendor sells."""

from app.orderable.cells import Cell, CellId, cells_of_rows
from app.orderable.legal import violations
from app.orderable.order import Orderable, OrderPolygon, as_given, orderable

__all__ = [
    "Cell",
    "CellId",
    "OrderPolygon",
    "Orderable",
    "as_given",
    "cells_of_rows",
    "orderable",
    "violations",
]
