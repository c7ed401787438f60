"""Quantities: how much of a number's variation can be read off frozen features linearly?

Reads the columns of targets.csv that are not 0/1 alone. Ridge regression on standardised features in closed form; the
penalty of each quantity is chosen on val by its error. R2 is 1 for exact answers, 0 for answering the mean of the
scored split, and may be negative. Images whose value is empty are left out for that quantity; a quantity that does not
vary in the scored split, or has no value in train, is left out, and the protocol names it.
Source: linear regression probes, as for rotation angles in SIE (Garrido et al. 2023).

Checked by: tests/stages/probe/test_targets.py; tests/stages/probe/test_target_figures.py.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from stages.probe import scoring
from stages.probe.data import BACKBONE, ProbeData
from stages.probe.fitting import PenaltyParams
from stages.probe.probe import Figure, Probe, ProbeResult
from stages.probe.quantities import r_squared, read_quantity


class Regression(Probe):
    """Metrics: `r2_<quantity>`, `mae_<quantity>` (mean absolute error, in its unit), `r2` (mean over quantities)."""

    needs_labels: ClassVar[bool] = False  # it has targets of its own
    needs_targets: ClassVar[bool] = True

    class Params(PenaltyParams):
        """As all linear probes; penalty is taken for quantities that fewer than 20 val images have."""

    def run(self, data: ProbeData) -> ProbeResult:
        """Fit on train, choose on val, score test."""
        from reprise.measures.statistics import bootstrap, bootstrap_mean

        names = data.quantities
        if not names or data.test == "train":
            reason = "targets.csv has no column of numbers" if not names else "there is no split to score"
            return ProbeResult({}, {"note": f"not run: {reason}"})
        protocol = {**scoring.targets_note(data, names), "tap": BACKBONE, "fit": "ridge regression in closed form"}
        metrics: dict[str, Figure] = {}
        left_out = []
        for name in names:
            reading = read_quantity(data, name, self.params)
            if reading is None:
                left_out.append(name)
                continue
            residual, target, groups, protocol[f"penalty of {name}"] = reading
            low, high = bootstrap(
                lambda w, r=residual, t=target: r_squared(r, t, w),  # type: ignore[misc]
                len(target),
                groups,
                data.confidence,
            )
            metrics[f"r2_{name}"] = Figure(float(r_squared(residual, target)[0]), low, high, len(target))
            low, high = bootstrap_mean(np.abs(residual), groups, data.confidence)
            metrics[f"mae_{name}"] = Figure(float(np.abs(residual).mean()), low, high, len(target))
        protocol["left out"] = ", ".join(left_out) or "no quantity"
        explained = [figure.value for name, figure in metrics.items() if name.startswith("r2_")]
        if explained:
            metrics["r2"] = scoring.plain(float(np.mean(explained)), len(data.part(data.test)))
        return ProbeResult(metrics, protocol)
