"""Labels: what a tile turned out to be, said by whom and when."""
