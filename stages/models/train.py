"""`python -m stages.models.train --seed N`: train the rows of `models` that name a kind of model, into data/trained/N.

`models/<name>` there is a model with its weights, figures and restored images. `features/<row>` is a copy of the one
that a row of `features` uses: what DVC sees that row depend on, so that another model makes no features again.

One stage trains all models of a seed. Each is kept in `.reprise/trained` under its inputs, so that of several models
only the changed ones are trained again, and none for a new row of `features`.
"""

from __future__ import annotations

from reprise.artifacts import layout
from reprise.config.params import ImageParams, read_yaml, section
from reprise.config.shared_sections import cache_params
from reprise.config.tables import tables
from reprise.runtime.entry import arguments_of, run_stage


def main(argv: list[str]) -> None:
    """Parse, type the parameters, train, copy."""
    arguments = arguments_of(argv, "stages.models.train", __doc__, {}, restart=True)
    raw = read_yaml()
    rows, image, cache = tables(raw), section(raw, "image", ImageParams), cache_params(raw)
    trained = [row for row in rows.models if row.model is not None]

    from reprise.storage.atomic import atomic_directory
    from stages.models.used import used_by_features, write_used

    used = used_by_features(raw, rows.features, [row.name for row in trained])
    with atomic_directory(layout.trained_models(arguments.seed)) as folder:
        (folder / "models").mkdir()
        (folder / "features").mkdir()
        if trained:
            from stages.models.training import train_model, typed_params  # imports torch, which takes seconds

            typed = {row.name: typed_params(raw, row) for row in trained}
            for row in trained:
                place = folder / "models" / row.name
                train_model(row, typed[row.name], arguments.seed, image, place, cache, arguments.restart)
        for name, model in used.items():
            write_used(model, folder / "models", folder / "features" / name)


if __name__ == "__main__":
    run_stage(main)
