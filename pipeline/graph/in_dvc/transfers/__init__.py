"""Transfers that DVC's command line does not offer; they run inside DVC's process. It never decides what is sent."""
