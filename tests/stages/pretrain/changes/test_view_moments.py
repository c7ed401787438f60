"""Moments of changes in closed form against draws and sums; the page that shows what changes do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from reprise.config.errors import ParameterError
from reprise.storage.atomic import dump_json
from reprise.training.change import Frame, nodes
from reprise.training.views import change_named
from stages.pretrain.show_views import main
from stages.pretrain.views.moments import closed, expected_loss, measured

SIDE, DRAWS = 6, 50_000
CASES: dict[str, dict[str, Any]] = {
    "shift": {"pixels": 2, "probability": 0.7},
    "colour": {"strength": 0.0, "brightness": 0.6, "probability": 0.8},
    "flip": {"probability": 0.3},  # at 0.5 all squared deviations are equal
    "grey": {},
    "solarize": {"probability": 0.4},
    "blur": {},
}


def picture(count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def changed_often(change: Any, x: torch.Tensor, count: int) -> torch.Tensor:
    """(count, 3, S, S) double: one picture, changed again and again."""
    drawn = change.draw(Frame(count, SIDE, SIDE, SIDE, 3), torch.Generator().manual_seed(0))
    return change.apply(x.expand(count, -1, -1, -1).clone(), change.prepared(drawn)).double()


@pytest.mark.parametrize("name", CASES)
def test_closed_moments_are_those_of_50000_draws(name):
    change, x = change_named(name, **CASES[name]), picture()
    found = closed(change, x)
    images = changed_often(change, x, DRAWS)
    variance = images.var(dim=0)
    error = (variance / DRAWS).sqrt() + 1e-7
    off = ((images.mean(dim=0) - found.mean[0]) / error).abs()
    spread = (images - images.mean(dim=0)).square()
    off_variance = ((variance - found.variance[0]) / ((spread.var(dim=0) / DRAWS).sqrt() + 1e-7)).abs()
    for deviations in (off, off_variance):
        assert float((deviations > 3).float().mean()) < 0.03  # 0.003 of independent pixels, and these are not
        assert float(deviations.max()) < 5


@pytest.mark.parametrize("name", ["shift", "colour"])
def test_the_expected_loss_of_a_linear_model_is_closed(name):
    change, x = change_named(name, **CASES[name]), picture()
    rng = torch.Generator().manual_seed(1)
    weights = torch.randn(4, 3 * SIDE**2, generator=rng, dtype=torch.float64) * 0.1
    target = torch.randn(1, 4, generator=rng, dtype=torch.float64)
    losses = (changed_often(change, x, DRAWS).flatten(1) @ weights.T - target).square().sum(dim=1)
    error = float(losses.std()) / DRAWS**0.5
    assert float(expected_loss(change, x, weights, target)) == pytest.approx(float(losses.mean()), abs=3 * error)


def test_the_expected_loss_is_that_at_the_mean_and_the_trace_of_the_covariance():
    change, x = change_named("flip", probability=0.3), picture().double()
    weights = torch.randn(2, 3 * SIDE**2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.zeros(1, 2, dtype=torch.float64)
    difference = (x - x.flip(3)).flatten()
    covariance = 0.3 * 0.7 * torch.outer(difference, difference)
    mean = closed(change, x).mean.flatten()
    stated = (weights @ mean - target[0]).square().sum() + torch.trace(weights @ covariance @ weights.T)
    assert float(expected_loss(change, x, weights, target)) == pytest.approx(float(stated), rel=1e-9)


def test_so_many_draws_show_the_mean_as_are_said_to_be_needed():
    """The relative error of the mean of that many draws is the asked one, on average."""
    change, x = change_named("flip"), picture(4)
    found = closed(change, x)
    needed = round(found.samples(0.1))
    rng = torch.Generator().manual_seed(0)
    errors = []
    for _ in range(200):
        mean = measured(change, x, needed, rng).mean
        errors.append(float((mean - found.mean).square().sum() / found.mean.square().sum()))
    assert (sum(errors) / 200) ** 0.5 == pytest.approx(0.1, rel=0.15)


def test_what_cannot_be_listed_has_no_closed_moments():
    assert closed(change_named("colour"), picture()) is None
    with pytest.raises(ValueError, match="colour has no closed moments"):
        expected_loss(change_named("colour"), picture(), torch.zeros(1, 3 * SIDE**2), torch.zeros(1, 1))
    assert sum(weight for weight, _ in nodes(0.1, 2.0)) == pytest.approx(1.0)
    assert sum(weight * place**3 for weight, place in nodes(0.0, 2.0)) == pytest.approx(2.0)


# ---------------------------------------------------------------------------------------------------- page
@pytest.fixture
def workspace(digits: Path, repository: Path) -> Path:
    (digits / "params.yaml").write_bytes((repository / "params.yaml").read_bytes())
    return digits


def test_the_page_shows_every_change_on_the_users_pictures(workspace):
    main(["--run", "simclr", "--all", "--out", "page.html"])
    text = Path("page.html").read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row">(\w+)</th>', text)[1:4] == ["affine", "blur", "camera"]
    assert text.count("data:image/png;base64,") == 8 * text.count("<tr>")
    assert "://" not in text  # nothing is asked for
    assert len(set(re.findall(r"base64,([^\"]+)", text))) > 80
    main(["--run", "simclr", "--all", "--out", "again.html"])
    assert Path("again.html").read_text(encoding="utf-8") == text


def test_the_table_has_closed_and_measured_moments(workspace, capsys):
    params = Path("params.yaml")
    views = dump_json(["crop", {"name": "flip", "probability": 1.0}]).replace("\n", "")
    params.write_text(
        params.read_text(encoding="utf-8").replace(
            "simclr: {temperature: 0.2}", f"simclr: {{temperature: 0.2, views: {views}}}", 1
        ),
        encoding="utf-8",
    )
    main(["--run", "simclr", "--moments"])
    first, second = [line.split()[-4:] for line in capsys.readouterr().out.splitlines()[3:]]
    assert (first[0], second[0]) == ("closed", "measured")
    assert first[1:] == second[1:]  # it happens always: nothing is left to chance


def test_an_unknown_run_is_named(workspace):
    with pytest.raises(ParameterError, match="Did you mean 'simclr'"):
        main(["--run", "simcl"])
