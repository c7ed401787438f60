"""One folder a group, one file a probe: the file name is the probe's name. See docs/how-to/own-probe.md."""
