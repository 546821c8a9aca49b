"""Price lists: what a vendor sells, in which polygons, for how much."""
