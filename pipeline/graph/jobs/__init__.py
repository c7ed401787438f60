"""Run several stages at once: which of them, on what, in which processes. It never decides what is up to date."""
