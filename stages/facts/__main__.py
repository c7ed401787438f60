"""`python -m stages.facts`: facts of the source and targets.csv -> data/facts/all, and data/facts/runs/<run>.

`all` is for probes and the report. The folder of a run holds the training images and nothing but the facts that its
method reads, so a label that an unsupervised run may not see does not lie where it looks; and DVC runs exactly those
runs again whose facts have changed.
"""

from __future__ import annotations

import argparse
import time

from reprise.config.params import read_yaml, section
from reprise.runtime.entry import run_stage
from stages.facts.params import SECTION, FactsParams


def main(argv: list[str]) -> None:
    """Parse, gather, write; the command has no arguments."""
    argparse.ArgumentParser(prog="python -m stages.facts", description=__doc__).parse_args(argv)
    params = section(read_yaml(), SECTION, FactsParams)

    from reprise.artifacts.facts.table import write_facts
    from reprise.artifacts.layout import ALL_FACTS, FACTS, READS, RUN_FACTS
    from reprise.artifacts.results import read_json
    from reprise.media.text.quality import FILE as QUALITY
    from reprise.storage.atomic import atomic_directory, write_json
    from reprise.storage.provenance import record
    from stages.facts.gather import captions_of, facts_of_run, gather

    began = time.monotonic()
    facts, sentences = gather(params)
    captions = captions_of(facts)
    reads = read_json(READS, "Run `dvc repro check`, which writes it.")
    with atomic_directory(FACTS) as folder:
        for name in (ALL_FACTS, *(RUN_FACTS / run for run in reads)):
            (folder / name.relative_to(FACTS)).mkdir(parents=True)
        write_facts(folder / ALL_FACTS.relative_to(FACTS), facts)
        if captions:
            counts = {name: counted.as_json() for name, counted in captions.items()}
            write_json(folder / ALL_FACTS.relative_to(FACTS) / QUALITY, counts)
        for run, wanted in reads.items():
            write_facts(folder / RUN_FACTS.relative_to(FACTS) / run, facts_of_run(facts, wanted))
    record("facts", began, {"facts": len(facts.declared)})
    for sentence in (*sentences, *(said for name, counted in captions.items() for said in counted.sentences(name))):
        print(f"facts: {sentence}")


if __name__ == "__main__":
    run_stage(main, algebra=False)
