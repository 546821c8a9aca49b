"""Reports: what was saved, recomputable from the rows."""
