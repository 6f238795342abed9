"""Our Llama gives the logits of transformers' PyTorch model, recorded by `make parity-llm ARGS=--record`."""

import json

import numpy as np
import pytest

from rlhf.checkpoints.weight_files import save
from tests.parity import llm

RECORDED = json.loads(llm.RECORDED.read_text())["logits"]


@pytest.mark.parametrize("name", list(llm.MODELS))
def test_logits_are_those_of_transformers(name, tmp_path):
    config = llm.MODELS[name]
    save(tmp_path, config, iter(llm.tensors(config).items()))
    actual = llm.ours(tmp_path)
    seen = llm.texts(config)[1][:, ::5]
    np.testing.assert_allclose(actual[:, ::5, ::7][seen], np.array(RECORDED[name])[seen], atol=llm.TOLERANCE)
