"""Where every artifact lies, relative to the project's folder. This file alone spells paths below `data/`.

`dvc.yaml` names the same places; a test compares the two.
"""

from __future__ import annotations

from pathlib import Path

DATA = Path("data")
IMAGES = DATA / "images"  # where a source looks for images unless `source.root` names another place

# ---- one of each -----------------------------------------------------------------------------------------------------

CODE = DATA / "code"  # fingerprints: what code each stage runs
READS = CODE / "reads.json"  # which facts each run's method reads: no fingerprint
INGEST = DATA / "ingest"
MANIFEST = INGEST / "manifest.parquet"
QUARANTINE = INGEST / "quarantine.parquet"
LEFT_OUT = INGEST / "left_out.parquet"  # what nobody means as an image
NOTES = INGEST / "notes.parquet"  # what was changed in the images on the way in
NEAR_COPIES = INGEST / "near_copies.parquet"  # images that show the same picture in other pixels
DATASET = INGEST / "dataset.json"
VIEWS = INGEST / "views.json"  # augmentation that suits the source
VALIDATION = DATA / "validate"
VALIDATION_DOCS = DATA / "validation_docs"  # its verdicts as a page: not an output
SHARDS = DATA / "shards"
FACTS = DATA / "facts"
ALL_FACTS = FACTS / "all"  # of all images, for probes and the report
RUN_FACTS = FACTS / "runs"  # for each run, what its method reads of the training images
REPRESENTATIONS = DATA / "representations"  # the comparison of all runs and seeds
SUMMARY = DATA / "summary"
COMPARISON = SUMMARY / "comparison.json"  # verdicts and budgets
TABLE = SUMMARY / "table.csv"  # every figure of every run and seed
REPORT = DATA / "report" / "index.html"
RESULTS = tuple(DATA / "report" / f"results.{extension}" for extension in ("csv", "tex", "json"))  # what it says
RESULTS_JSON = RESULTS[-1]
REPORT_PROVENANCE = DATA / "report" / "provenance.js"  # differs from run to run: not an output
METRICS = Path("metrics.json")
PARAMS = Path("params.yaml")

# ---- working state: no output of DVC, its loss costs time only ---------------------------------------

CHECKED = Path(".reprise/checked.json")  # which parameters and code were found valid last
NEEDS = Path(".reprise/needs.json")  # for each run: memory, device and processes of its training
PRESENT_CODE = Path(".reprise/code")  # the fingerprints of that code; `data/code` holds those of the last run

# ---- one a row of params.yaml and a seed -----------------------------------------------------------------------------

MODELS = DATA / "models"  # weights from elsewhere, checked and converted
TRAINED = DATA / "trained"  # models that are no backbones, trained on the images
STARTS = DATA / "starts"  # for each run, a copy of what it starts from and learns from
FEATURES = DATA / "features"
LABEL_SETS = DATA / "mine"
RUNS = DATA / "runs"
EMBEDDINGS = DATA / "embed"
PROBES = DATA / "probe"
PROBES_ON_SHIFTS = PROBES / "_shifts"
SHIFTS = DATA / "shifts"  # for each row of `shifts` its images, and all runs embedded on them


def code(*names: str) -> Path:
    """The fingerprint file of a stage, or of a stage's row: `code("pretrain", "simclr")`."""
    return CODE.joinpath(*names).with_suffix(".json")


def start(run: str) -> Path:
    """The folder of the weights that a run starts from and learns from, the same for every seed."""
    return STARTS / run


def run_facts(run: str) -> Path:
    """The folder of the facts that a run's method reads, the same for every seed."""
    return RUN_FACTS / run


def trained_models(seed: int) -> Path:
    """The folder of all models that are trained with a seed."""
    return TRAINED / str(seed)


def trained_model(name: str, seed: int) -> Path:
    """The folder of a trained row of `models`: weights, config.json, metrics.json, restored images."""
    return trained_models(seed) / "models" / name


def model_of_features(name: str, seed: int) -> Path:
    """The folder of the model that a row of `features` uses, a copy; empty but for a note where it uses none."""
    return trained_models(seed) / "features" / name


def features(name: str, seed: int) -> Path:
    """The folder of a row of `features`."""
    return FEATURES / name / str(seed)


def label_set(name: str, seed: int) -> Path:
    """The folder of a row of `mines`, or of one of the label sets that are always there."""
    return LABEL_SETS / name / str(seed)


def run(name: str, seed: int) -> Path:
    """The folder of a run: weights, config.json, history."""
    return RUNS / name / str(seed)


def mined_from(place: str, seed: int) -> Path:
    """The folder that a row of `mines` reads: `features/<name>` or `embed/<run>`, as its field `on` says."""
    return DATA / place / str(seed)


def embedding(name: str, seed: int) -> Path:
    """The folder of a run's embeddings."""
    return EMBEDDINGS / name / str(seed)


def shift_images(shift: str) -> Path:
    """The folder with the images of a row of `shifts`, or with a note that they are made of the scored split."""
    return SHIFTS / shift / "images"


def shift_embeddings(shift: str) -> Path:
    """The folder with the embeddings of a row of `shifts` by every run and seed."""
    return SHIFTS / shift / "embed"


def probes_on_features(name: str, seed: int) -> Path:
    """The folder of the suites of probes that read a run's embeddings, a folder each."""
    return PROBES / name / str(seed) / "features"


def probes_on_images(name: str, seed: int) -> Path:
    """The folder of the suites of probes that train on the images, a folder each."""
    return PROBES / name / str(seed) / "images"


def probes_on_shifts(suite: str) -> Path:
    """The folder of a suite of probes on shifted images: in it one for each run and seed.

    No run can have the name of the folder above it.
    """
    return PROBES_ON_SHIFTS / suite


def inputs_of_report() -> tuple[str, ...]:
    """Patterns of the files that the report is made from."""
    tables = {SHARDS: "index.parquet", LABEL_SETS: "*/*/*", RUNS: "*/*/*", EMBEDDINGS: "*/*/*", PROBES: "*/*/*/*/*"}
    tables[TRAINED] = "*/models/*/*"
    whole = (
        INGEST / "*.json",
        INGEST / "*.parquet",
        VALIDATION / "validation.json",
        REPRESENTATIONS / "*",
        SUMMARY / "*",
        ALL_FACTS / "*",
    )
    return tuple(path.as_posix() for path in (*whole, *(folder / pattern for folder, pattern in tables.items())))
