"""Plans: an LR raster in, the patches worth buying out."""
