"""Stage `models`: weights from elsewhere, checked and converted. Never images or training."""
