"""The tables of params.yaml that name the graph's rows: runs, weights and models that they use, and their probes."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, Field, field_validator, model_validator

from reprise.config.errors import printable
from reprise.config.params import BackboneName, Problem, Seed, StrictModel, meaning, parameter_error, parse
from reprise.config.shift_rows import ShiftRow
from reprise.config.texts.suggest import nearest
from reprise.config.texts.text_forms import NAME, Name, TextForm, plug_in_name, with_pattern, wrong_value

M = TypeVar("M", bound=BaseModel)

FeaturesName = Annotated[
    str,
    with_pattern(
        rf"(features|embed)/{NAME.pattern}",
        "write features/<name> for a row of 'features', or embed/<name> for a row of 'runs'",
    ),
]


class FeaturesRow(StrictModel):
    """A row of `features`: images described once, for any number of label sets."""

    name: Annotated[Name, meaning("Label sets refer to these features as `features/<name>`.")]
    extractor: Annotated[str, plug_in_name("extractors"), meaning("This extractor describes the images.")]


NONE, TRUTH = "none", "truth"  # label sets that always exist: stages/mine/given.py


class MineRow(StrictModel):
    """A row of `mines`: a label set."""

    name: Annotated[Name, meaning("Runs refer to this label set by its name.")]
    miner: Annotated[str, plug_in_name("miners"), meaning("This miner finds the clusters or pairs.")]
    on: Annotated[
        FeaturesName,
        meaning("The miner reads a row of `features` (features/<name>) or the embedding of a run (embed/<run>)."),
    ]

    @field_validator("name")
    @classmethod
    def _not_always_there(cls, value: str) -> str:
        if value in (NONE, TRUTH):
            raise ValueError("this label set is always there; remove the row, and its block in `mining`")
        return value


RANDOM = "random"  # where a run starts unless its row says otherwise
TIMM = "timm:"  # before the name of a published network
_FILE = r"\.[A-Za-z]+$"  # of weights that are a file
ModelName = Annotated[str, with_pattern(rf"models/{NAME.pattern}", "write models/<name> for a row of 'models'")]


class ModelRow(StrictModel):
    """A row of `models`: weights that were trained elsewhere, or a model that is no backbone and is trained here."""

    name: Annotated[
        Name, meaning("Runs refer to weights as `models/<name>`, and extractors to a trained model by <name>.")
    ]
    weights: Annotated[
        str,
        Field(max_length=1000),
        meaning(
            "These are published weights (`timm:NAME`), a .safetensors file, a torch file, or the folder of a finished "
            "run that lies outside of `data`; left out where `model` says what is trained."
        ),
    ] = ""
    model: Annotated[
        Annotated[str, plug_in_name("models")] | None,
        meaning("A model of this kind is trained for every seed; its parameters stand in `model_options`."),
    ] = None
    on: Annotated[Literal["images"], meaning("A model is trained on the training images, without labels.")] = "images"
    architecture: Annotated[
        BackboneName | None,
        meaning("A file is for this backbone or timm model; null for `timm:NAME` and for a folder, which name it."),
    ] = None
    stem: Annotated[
        Literal["auto", "small", "imagenet"], meaning("The network of a file or of `timm:NAME` has this stem.")
    ] = "imagenet"
    size: Annotated[
        Annotated[int, Field(ge=8, le=1024)] | None,
        meaning("The network sees images of this side when it is judged as it is; null takes its own.", "pixels"),
    ] = None
    part: Annotated[
        Annotated[str, Field(min_length=1, max_length=100)] | None,
        meaning("The weights are this entry of a torch file (`student`); null takes the one that authors publish."),
    ] = None
    sha256: Annotated[
        Annotated[str, with_pattern("[0-9a-f]{64}", "a SHA-256 has 64 lower-case hexadecimal digits")] | None,
        meaning("The file has this checksum; null accepts any content, and the terminal names it."),
    ] = None

    @property
    def is_file(self) -> bool:
        """Whether the weights are a file that does not say what network it is for."""
        return not self.weights.startswith(TIMM) and re.search(_FILE, self.weights) is not None

    @model_validator(mode="after")
    def _either_weights_or_a_model(self) -> Self:
        if (self.model is None) == (self.weights == ""):
            raise ValueError("a row names either `weights` from elsewhere or the kind of `model` that is trained here")
        foreign = sorted(self.model_fields_set & {"architecture", "stem", "size", "part", "sha256"})
        if self.model is not None and foreign:
            raise ValueError(
                f"{', '.join(foreign)} belong to `weights`; what a model is trained with stands in model_options"
            )
        if self.model is None and "on" in self.model_fields_set:
            raise ValueError("`on` belongs to a `model` that is trained here; weights have been trained elsewhere")
        return self

    @model_validator(mode="after")
    def _architecture_where_needed(self) -> Self:
        if self.model is None and self.is_file == (self.architecture is None):
            raise ValueError("architecture belongs to files, which need it; `timm:NAME` and folders name their own")
        return self


class _Start(TextForm):
    """The rule for what a run starts from; it shows the rows that say what the user may have meant."""

    def __call__(self, value: str) -> str:
        """Refuse a text that breaks the rule."""
        if re.fullmatch(self.pattern, value):
            return value
        raise wrong_value(self.words, _rows_for(value))


def _rows_for(start: str) -> str:
    """Return a hint with the rows for a start that is written elsewhere; "" where nobody knows what was meant."""
    if run := re.fullmatch(rf"(?:embed|runs)/({NAME.pattern})", start):
        return f" Move this row to 'adapt', with `from: runs/{run[1]}`."
    if not re.search(r"[/.:]", start) or len(start) > 200:
        return ""
    published = start.startswith(TIMM)
    words = start.removeprefix(TIMM) if published else start.rstrip("/").rpartition("/")[2]
    name = re.sub(r"[^a-z0-9]+", "_", words.partition(".")[0].casefold()).strip("_")
    name = name if NAME.fullmatch(name) else "weights"
    network = ", architecture: NETWORK" if not published and re.search(_FILE, start) else ""
    weights = json.dumps(start)  # YAML reads it as it was, with quotes and backslashes
    return (
        f" Write `- {{name: {name}, weights: {weights}{network}}}` into the table 'models', and "
        f"`from: models/{name}` here."
    )


class TrainedRow(StrictModel):
    """What every row that trains a backbone says: its name, its method, and the label set that the method may use."""

    name: Annotated[Name, meaning("The run's folders, and all tables of results, carry this name.")]
    method: Annotated[str, plug_in_name("methods"), meaning("This method trains the backbone.")]
    labels: Annotated[
        Name, meaning("The method may use this label set: `none`, `truth` (the manifest's labels) or a row of `mines`.")
    ]


class RunRow(TrainedRow):
    """A row of `runs`: it starts from random weights, or from weights that were trained elsewhere."""

    start: Annotated[
        str,
        Field(alias="from"),
        AfterValidator(
            _Start(
                f"write {RANDOM}, or models/<name> for a row of 'models'; a row that goes on from another run "
                "(runs/<name>) belongs in the table 'adapt'",
                rf"{RANDOM}|models/{NAME.pattern}",
            )
        ),
        meaning("The backbone starts from these weights: `random` ones, or a row of `models` (models/<name>)."),
    ] = RANDOM
    teacher: Annotated[
        ModelName | None, meaning("A method that learns from a frozen network learns from this row of `models`.")
    ] = None


class AdaptRow(TrainedRow):
    """A row of `adapt`: a run that goes on from the backbone of another run. Everything else is as in `runs`."""

    start: Annotated[
        str,
        Field(alias="from"),
        with_pattern(rf"runs/{NAME.pattern}", "write runs/<name> for a row of 'runs' or of 'adapt'"),
        meaning("The backbone starts from that of this row of `runs` or `adapt` (runs/<name>), trained with its seed."),
    ]

    @property
    def teacher(self) -> None:
        """No adapted run learns from a frozen network."""
        return

    @property
    def parent(self) -> str:
        """The name of the run that it starts from."""
        return self.start.removeprefix("runs/")


AnyRun = RunRow | AdaptRow


class SuiteRow(StrictModel):
    """A row of `suites` or `shift_suites`: a folder of probes under stages/probe/probes."""

    name: Annotated[Name, meaning("The probes lie in the folder of this name.")]


class CheckRow(StrictModel):
    """A row of `checks`: one group of probes that train on the images, on the backbone of one run and seed."""

    run: Annotated[Name, meaning("The probes start from the backbone of this row of `runs` or `adapt`.")]
    seed: Annotated[Seed, meaning("The run was trained with this seed of `seeds`.")]
    group: Annotated[Name, meaning("The probes lie in the folder of this name, as `image_probes` lists them.")]


class Tables(StrictModel):
    """The lists that dvc.yaml expands into stages."""

    seeds: Annotated[
        list[Seed],
        Field(min_length=1, max_length=50),
        meaning("Every run is trained, and every label set mined, once with each of these seeds."),
    ]
    features: Annotated[
        list[FeaturesRow], meaning("Images are described once by each of these; empty where no miner reads features.")
    ]
    mines: Annotated[
        list[MineRow], meaning("These label sets are mined besides `none` and `truth`, which are always there.")
    ]
    runs: Annotated[list[RunRow], Field(min_length=1), meaning("These runs are trained, probed and compared.")]
    suites: Annotated[
        list[SuiteRow], Field(min_length=1), meaning("These suites of probes measure every run's features.")
    ]
    models: Annotated[
        list[ModelRow],
        meaning(
            "Runs may start from these weights or learn from them, and extractors describe images by these models."
        ),
    ] = Field(default_factory=list)
    adapt: Annotated[
        list[AdaptRow],
        meaning("These runs go on from the backbones of other runs; all else is as for `runs`."),
    ] = Field(default_factory=list)
    shifts: Annotated[
        list[ShiftRow], meaning("Every run is embedded on these changed or other images too; none by default.")
    ] = Field(default_factory=list)
    shift_suites: Annotated[
        list[SuiteRow], meaning("These suites of probes measure every run on the shifted images; none by default.")
    ] = Field(default_factory=list)
    checks: Annotated[
        list[CheckRow], meaning("Probes that train on the images, minutes a row, run on these runs and seeds only.")
    ] = Field(default_factory=list)

    @property
    def trained(self) -> list[AnyRun]:
        """All rows that train a backbone, in the order of results: `runs`, then `adapt`."""
        return [*self.runs, *self.adapt]


def tables(raw: dict[str, Any]) -> Tables:
    """Return the lists that name the graph's rows."""
    return parse(Tables, {k: raw[k] for k in Tables.model_fields if k in raw}, "")


def row(rows: list[M], name: str, where: str) -> M:
    """Return the row called `name`.

    Raises:
        ParameterError: no such row.
    """
    for candidate in rows:
        if candidate.name == name:  # type: ignore[attr-defined]
            return candidate
    known = [r.name for r in rows]  # type: ignore[attr-defined]
    raise parameter_error([Problem(where, f"no row is called '{printable(name)}'", known, nearest(name, known))])
