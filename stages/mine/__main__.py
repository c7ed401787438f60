"""`python -m stages.mine --name NAME --seed N`: a label set from features, into data/mine/NAME/N."""

from __future__ import annotations

from reprise.artifacts.layout import label_set
from reprise.config.params import parse, read_yaml
from reprise.config.tables import row, tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Parse, type the parameters, mine."""
    arguments = arguments_of(argv, "stages.mine", __doc__, {"name": "mines"}, restart=True)
    raw = read_yaml()
    graph = tables(raw)
    chosen = row(graph.mines, arguments.name, "mines")

    from reprise.config.plug_ins.registry import load_class
    from stages.mine.label_sets.label_set import mine
    from stages.mine.label_sets.rounds import label_set_before, round_of
    from stages.mine.miner import Miner

    miner_class = load_class("miners", chosen.miner, Miner, f"mines.{chosen.name}.miner")
    params = parse(miner_class.Params, (raw.get("mining") or {}).get(chosen.name, {}), f"mining.{chosen.name}")
    out = label_set(chosen.name, arguments.seed)
    number, before = round_of(graph, chosen), label_set_before(graph, chosen)
    mine(chosen, miner_class, params, arguments.seed, out, arguments.restart, number, before)


if __name__ == "__main__":
    run_stage(main)
