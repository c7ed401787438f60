"""DVC: the graph, what would run and why, the lock file, pruning, the remote. Only here DVC is called."""
