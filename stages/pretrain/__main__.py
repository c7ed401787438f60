"""`python -m stages.pretrain --run NAME --seed N`: train one backbone and write it into data/runs/NAME/N."""

from __future__ import annotations

import sys

from reprise.artifacts import layout
from reprise.config.params import ImageParams, parse, read_yaml, section
from reprise.config.shared_sections import cache_params
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Parse the command line, type the parameters, train."""
    arguments = arguments_of(argv, "stages.pretrain", __doc__, {"run": "runs"}, restart=True)
    raw = read_yaml()
    chosen = row(tables(raw).trained, arguments.run, "runs, adapt")
    image = section(raw, "image", ImageParams)

    from reprise.config.plug_ins.registry import load_class
    from reprise.runtime.device import chosen_device
    from reprise.runtime.ranks.start import together
    from reprise.training.params import TrainParams
    from stages.pretrain.method import Method
    from stages.pretrain.run import pretrain

    train = section(raw, "train", TrainParams)
    method_class = load_class("methods", chosen.method, Method, f"runs.{chosen.name}.method")
    own = parse(method_class.Params, (raw.get("methods") or {}).get(chosen.name, {}), f"methods.{chosen.name}")
    asked = own.applied_to(train)
    processes = 1 if method_class.gradient_free else asked.processes
    command = [sys.executable, *sys.orig_argv[1:]]
    with together(processes, chosen_device(asked.device), command) as world:
        pretrain(
            chosen,
            arguments.seed,
            image,
            train,
            own,
            layout.run(chosen.name, arguments.seed),
            arguments.restart,
            cache_params(raw),
            world,
        )


if __name__ == "__main__":
    run_stage(main)
