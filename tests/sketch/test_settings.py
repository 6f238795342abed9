"""Settings: JSON round trip, and validation when they are read back."""

import json
from pathlib import Path

import pytest

from sketch.data.bitmap_dataset import BitmapConfig
from sketch.data.dataset import ClassFilter, DatasetConfig, ReadConfig
from sketch.models.sketch_rnn import SketchRNNConfig
from sketch.training.guided_training import GuidedTrainingConfig
from sketch.training.requests import (
    ClassifierRequest,
    DiscriminatorRequest,
    ReinforceRequest,
    SketchRNNRequest,
    request_from_json,
)

DATASET = DatasetConfig(
    data=(Path("a.npz"), Path("b")),
    procedural=("cat:3",),
    select=ClassFilter(classes=("cat",)),
    read=ReadConfig(skip=True),
)
REQUESTS = [
    SketchRNNRequest(
        seed=3, dataset=DATASET, start=Path("start"), architecture=SketchRNNConfig(decoder_size=8),
        training=GuidedTrainingConfig(copies=2),
    ),
    DiscriminatorRequest(dataset=DATASET, negatives=("sun:3",), generators=(Path("x"), Path("y"))),
    ClassifierRequest(bitmaps=BitmapConfig(bitmaps=(Path("b.npz"),), per_class=5)),
    ReinforceRequest(model=Path("m"), discriminator=Path("d"), dataset=DATASET),
]  # fmt: skip


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.stage)
def test_a_request_is_read_back_from_json(request_):
    data = json.loads(json.dumps(request_.to_json()))
    assert request_from_json(request_.stage, data) == request_


def test_a_resumed_run_uses_its_own_copies_of_models():
    plain, discriminator, _, reinforce = REQUESTS
    assert plain.with_models_in(Path("run")).start == Path("run/start") and plain.models == {"start": Path("start")}
    assert discriminator.with_models_in(Path("run")).generators == (Path("run/generator-0"), Path("run/generator-1"))
    assert reinforce.with_models_in(Path("run")).model == Path("run/model-before")
    for request in REQUESTS:
        assert set(request.with_models_in(Path("run")).models) == set(request.models)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(seed="one"), "seed"),
        (lambda data: data.update(frame=True), "has no setting 'frame'"),
        (lambda data: data["dataset"].update(split="trains"), "split must be one of"),
        (lambda data: data["dataset"]["read"].update(max_points=0), "max_points must be at least 1, got 0"),
        (lambda data: data["architecture"].update(decoder_size=0), "decoder_size must be at least 1, got 0"),
        (lambda data: data.pop("dataset"), "dataset"),
    ],
)
def test_invalid_settings_are_refused_when_they_are_read(change, message):
    data = REQUESTS[0].to_json()
    change(data)
    with pytest.raises(ValueError, match=message):
        request_from_json("train", data)
    with pytest.raises(ValueError, match="unknown stage 'trains'"):
        request_from_json("trains", data)


def test_a_classifier_needs_one_source_of_the_kind_it_reads():
    for dataset, bitmaps in ((None, None), (DATASET, REQUESTS[2].bitmaps)):
        with pytest.raises(ValueError, match="either vectors or bitmaps"):
            ClassifierRequest(dataset=dataset, bitmaps=bitmaps)
