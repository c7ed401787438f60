"""Ask DVC: the graph, what would run and why, the lock file, pruning, the remote. Only this package calls DVC."""
