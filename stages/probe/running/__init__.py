"""How probes are run: made from parameters, one suite after the other, with stored results. Never what one measures."""
