"""Any backbone as a run's folder: a run, foreign weights, an untrained timm network; and what is refused."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from reprise.artifacts.embeddings import read_embeddings
from reprise.artifacts.shards import Shards
from reprise.artifacts.weights.backbones import open_weights, read_config, read_weights
from reprise.config.errors import BackboneError
from reprise.media.image.decode import decode
from reprise.media.image.transform import resize_to_square
from reprise.networks.assemble import assemble
from reprise.networks.backbone import backbone_named, build_backbone, published_preparation
from reprise.networks.state import arrays_of
from stages.embed.adopt import main
from stages.embed.embedding import embed
from stages.embed.params import EmbedParams

OUT = Path("data/runs/backbone/0")


def adopt(*words: object) -> dict:
    main(["--backbone", *map(str, words), "--out", str(OUT)])
    return read_config(OUT)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A resnet10t with its classifier, as timm would save it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(1)
    found = arrays_of(build_backbone("resnet10t", 3, 32, "imagenet").state_dict())
    return found | {"fc.weight": np.zeros((10, 512), np.float32), "fc.bias": np.zeros(10, np.float32)}


def test_a_run_is_taken_over_whole_by_folder_or_file(run: Path) -> None:
    for name in (run, run / "backbone.safetensors"):
        assert adopt(name) == read_config(run)
        for ours, theirs in zip(read_weights(OUT), read_weights(run), strict=True):
            assert ours.keys() == theirs.keys()
            assert all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_foreign_weights_lose_their_classifier_and_embed(run: Path, weights) -> None:
    save_file(weights, "foreign.safetensors")
    config = adopt("foreign.safetensors", "--architecture", "resnet10t", "--size", 32)
    assert (config["num_features"], config["input_size"], config["heads"]) == (512, 32, {})
    assert config["mean"] == pytest.approx([0.485, 0.456, 0.406])
    kept, heads = read_weights(OUT)
    assert heads == {}
    assert set(weights) - set(kept) == {"fc.weight", "fc.bias"}
    embed("backbone", 0, EmbedParams(augmented=0), Path("out"))
    assert read_embeddings("out/embeddings.parquet", "backbone")[2].shape == (60, 512)


def test_untrained_timm_networks_are_the_same_every_time(weights) -> None:
    config = adopt("timm:resnet10t", "--size", 32, "--channels", 1)
    assert (config["weights"], config["channels"], len(config["mean"])) == ("untrained", 1, 1)
    first = read_weights(OUT)[0]
    adopt("timm:resnet10t", "--size", 32, "--channels", 1)
    assert all(np.array_equal(first[k], v) for k, v in read_weights(OUT)[0].items())


def test_weights_that_do_not_fit_are_told_apart(weights) -> None:
    del weights["conv1.0.weight"]
    weights["layer1.0.conv1.weight"] = np.zeros((1, 2, 3, 3), np.float32)
    weights["extra"] = np.zeros(1, np.float32)
    save_file(weights, "foreign.safetensors")
    with pytest.raises(BackboneError) as told:
        adopt("foreign.safetensors", "--architecture", "resnet10t")
    for words in ("conv1.0.weight is missing", "extra is unknown", "layer1.0.conv1.weight is (1, 2, 3, 3), not (64,"):
        assert words in str(told.value)
    assert not OUT.exists()


def test_pickles_are_never_opened(weights) -> None:
    class Harm:
        def __reduce__(self):
            return (sys.exit, (99,))

    Path("model.pth").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(BackboneError, match="the only format read here"):
        adopt("model.pth", "--architecture", "resnet10t")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("timm:resnet18x",), "unknown backbone"),
        (("absent.safetensors", "--architecture", "resnet10t"), "the file of weights is missing"),
        (("foreign.safetensors",), "architecture of these weights is unknown"),
        (("folder",), "not the folder of a run"),
    ],
)
def test_what_is_refused(weights, words: tuple[str, ...], message: str) -> None:
    save_file(weights, "foreign.safetensors")
    Path("folder").mkdir()
    with pytest.raises(BackboneError, match=message):
        adopt(*words)


def test_published_weights_come_from_the_hub_as_safetensors_or_not_at_all(weights, monkeypatch) -> None:
    asked = []

    def download(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file))
        if not Path("hub.safetensors").exists():
            raise huggingface_hub.errors.LocalEntryNotFoundError("no network")
        return "hub.safetensors"

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(BackboneError, match=r"published weights cannot be fetched.*no network.*hub can be reached"):
        adopt("timm:resnet10t", "--pretrained")
    save_file(weights, "hub.safetensors")
    config = adopt("timm:resnet10t", "--pretrained")
    assert (config["weights"], config["input_size"]) == ("published", 176)
    assert np.array_equal(read_weights(OUT)[0]["conv1.0.weight"], weights["conv1.0.weight"])
    assert asked[0][0].startswith("timm/resnet10t")
    assert {file for _, file in asked} == {"model.safetensors"}


# Bicubic and bilinear; cut, whole and squashed; with the share that is kept of the shorter side.
PUBLISHED = {
    "resnet18": (0.95, "bicubic", "center"),
    "vgg11": (0.875, "bilinear", "center"),
    "vit_small_patch16_224": (0.9, "bicubic", "center"),
    "maxvit_tiny_tf_384": (1.0, "bicubic", "squash"),
}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(("height", "width"), [(320, 400), (500, 333), (97, 97), (40, 700)])
def test_published_weights_get_the_pixels_of_their_authors_evaluation(name: str, height: int, width: int) -> None:
    """The pixels of timm's own transform of that name, to the last bit, from photographs of any shape."""
    stated = backbone_named(name).made_for()
    from timm.data import create_transform

    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    theirs = create_transform(
        stated["input_size"], crop_pct=stated["crop_pct"], crop_mode=stated["crop_mode"],
        interpolation=stated["interpolation"], mean=(0.0,) * 3, std=(1.0,) * 3,
    )(Image.fromarray(image))  # fmt: skip
    preparation = published_preparation(stated, name)
    ours = resize_to_square(image, stated["input_size"][-1], **preparation)
    assert np.array_equal(ours, np.rint(theirs.numpy().transpose(1, 2, 0) * 255))
    assert preparation == dict(zip(("crop_pct", "interpolation", "crop_mode"), PUBLISHED[name], strict=True))


def test_preparation_is_written_down_said_and_used(run: Path, weights, capsys: pytest.CaptureFixture[str]) -> None:
    """Embeddings are those of the cut and scaled pixels; those of the whole image differ."""
    config = adopt("timm:resnet10t", "--size", 32)
    assert (config["crop_pct"], config["interpolation"], config["crop_mode"]) == (0.875, "bicubic", "center")
    assert "scaled to 36 pixels (bicubic), and the central 32 are kept (crop_pct 0.875)" in capsys.readouterr().out
    embed("backbone", 0, EmbedParams(augmented=0), Path("cut"))
    config_file = OUT / "config.json"
    config_file.write_text(json.dumps(config | {"crop_pct": 1.0}), encoding="utf-8")
    embed("backbone", 0, EmbedParams(augmented=0), Path("whole"))
    keys, _, cut = read_embeddings("cut/embeddings.parquet", "backbone")
    whole = read_embeddings("whole/embeddings.parquet", "backbone")[2]
    assert not np.allclose(cut, whole, atol=1e-3)
    network = assemble(config, *open_weights(OUT), "x")
    shards = Shards.open()
    pixels = resize_to_square(decode(shards.read(0), "x", 3), 32, 0.875, "bicubic") / 255
    x = (pixels - np.array(config["mean"])) / np.array(config["std"])
    want = network(torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None])["backbone"][0].numpy()
    np.testing.assert_allclose(cut[list(keys).index(shards.keys[0])], want, atol=1e-4)


def test_ways_of_preparing_that_are_not_built_are_refused() -> None:
    for stated in ({"crop_mode": "border"}, {"interpolation": "hamming"}):
        with pytest.raises(BackboneError, match="prepared in a way that is not built.*some_vit"):
            published_preparation(stated, "some_vit")
    assert published_preparation({}, "x") == {"crop_pct": 1.0, "interpolation": "bilinear", "crop_mode": "center"}
