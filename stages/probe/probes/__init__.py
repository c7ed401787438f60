"""One folder per suite and one file per probe; the file's name is the probe's. See docs/how-to/own-probe.md."""
