"""Let the clones of several machines compute one graph over a Dask scheduler. It decides neither what is up to date nor
in which order stages run, and it never sends results itself: those travel by the DVC remote."""
