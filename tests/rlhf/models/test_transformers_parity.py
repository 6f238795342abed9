"""Our Llama gives the logits of transformers' PyTorch model, recorded by `make parity-llm ARGS=--record`."""

import json

import numpy as np
import pytest

from rlhf.weights import save
from tests import parity_llm

RECORDED = json.loads(parity_llm.RECORDED.read_text())["logits"]


@pytest.mark.parametrize("name", list(parity_llm.MODELS))
def test_logits_are_those_of_transformers(name, tmp_path):
    config = parity_llm.MODELS[name]
    save(tmp_path, config, iter(parity_llm.tensors(config).items()))
    found = parity_llm.ours(tmp_path)
    seen = parity_llm.texts(config)[1][:, ::5]
    np.testing.assert_allclose(found[:, ::5, ::7][seen], np.array(RECORDED[name])[seen], atol=parity_llm.TOLERANCE)
