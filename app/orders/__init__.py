"""Orders: what is asked of a vendor, in polygons, and what became of it."""
