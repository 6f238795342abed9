"""Mutated model folders: each is read with finite weights, or refused by an error of the project."""

import json
import random
import shutil
import warnings

import jax
import numpy as np
import pytest

from rlhf.checkpoints import model_folder
from rlhf.tokenizer.train_bpe import learn_tokenizer
from tests.rlhf.data.test_reader_fuzz import VALUES, mutated_bytes

TEXTS = ["How do I oil the door?", "read the label first", "let it dry overnight"] * 3
FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
         "model.safetensors")  # fmt: skip

NO_NUMBERS = (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff")
"""NaN, infinity and NaN in float32."""


@pytest.fixture(scope="module", params=["language", "reward"])
def original(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model = model_folder.fresh("nano", learn_tokenizer(TEXTS, 270, tmp_path_factory.mktemp("tokens")))
    if request.param == "reward":
        model = model_folder.with_scores(model)
    model_folder.save_model(folder, model, "reward" if request.param == "reward" else "")
    (folder / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}, "bos_token": "<s>"}')
    return folder


def changed_entry(text, rng):
    """Return JSON with one entry of its object, or of one below, replaced or removed."""
    content = place = json.loads(text)
    while rng.random() < 0.6 and (inner := [v for v in place.values() if isinstance(v, dict) and v]):
        place = rng.choice(inner)
    if not place:
        return text
    key = rng.choice(list(place))
    if rng.random() < 0.2:
        del place[key]
    else:
        place[key] = rng.choice((*VALUES, float("nan"), float("inf"), "llama", [0], 1, 2**63))
    return json.dumps(content)


def mutate(path, rng):
    if path.suffix == ".json" and rng.random() < 0.6:
        path.write_text(changed_entry(path.read_text(), rng))
        return
    data = path.read_bytes()
    if path.suffix == ".safetensors" and rng.random() < 0.7:  # numbers, which have no check of their own
        data = bytearray(data)
        at = rng.randrange(len(data) // 8, len(data) // 4) * 4
        data[at : at + 4] = rng.choice(
            (b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\xff\xff", rng.randbytes(4))
        )
    else:
        data = mutated_bytes(data, rng)
    path.write_bytes(data)


def try_mutations(original, folder, number):
    """Return how many of the mutated folders are refused."""
    rng, refused, score = random.Random(0), 0, "reward" in original.name
    for step in range(number):
        shutil.copytree(original, folder, dirs_exist_ok=True)
        name = rng.choice([name for name in FILES if (folder / name).is_file()])
        mutate(folder / name, rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = model_folder.open_model(folder, score=score)
        except (ValueError, FileNotFoundError, KeyError) as error:
            assert str(folder) in str(error), f"step {step}, {name}: {error!r} does not name the folder"
            refused += 1
        except Exception as error:
            raise AssertionError(f"step {step}, {name}: {error!r}") from error
        else:
            assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(model.params)), f"step {step}, {name}"
            model.tokenizer.decode(model.tokenizer.encode("oil the door"))
    return refused


def test_folders_with_changes_are_read_or_refused_by_name(original, tmp_path):
    assert try_mutations(original, tmp_path, 60) > 20


@pytest.mark.slow
def test_folders_with_many_changes_are_read_or_refused_by_name(original, tmp_path):
    assert try_mutations(original, tmp_path, 1_000) > 300
