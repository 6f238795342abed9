"""Weights in and out: safetensors, PyTorch archives, and files that want more than to be read."""

import collections
import dataclasses
import io
import json
import pickle
import sys
import types
import zipfile

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from rlhf.checkpoints.pickle_reader import ALLOWED, PytorchFile, UnsafeFileError
from rlhf.checkpoints.weight_files import Weights, language_model_tensors, load_language_model, save
from rlhf.models import LanguageModel, ModelConfig

SHARED = ModelConfig(
    vocab_size=11, hidden_size=24, intermediate_size=20, num_layers=2, num_heads=6, num_kv_heads=2, head_dim=4
)
CONFIGS = {
    "shared keys": SHARED,
    "baichuan": dataclasses.replace(SHARED, num_kv_heads=6, family="baichuan", norm_head=True, pad_id=0),
    "tied": dataclasses.replace(SHARED, tied=True),
}


def tensors_of(config, seed=0):
    """Random tensors under their published names and shapes, written down here from the published layout."""
    rng = np.random.default_rng(seed)
    h, f, q, k = config.hidden_size, 20, 24, config.num_kv_heads * 4
    shapes = {"model.embed_tokens.weight": (11, h), "model.norm.weight": (h,)}
    if not config.tied:
        shapes["lm_head.weight"] = (11, h)
    for i in range(config.num_layers):
        own = {"self_attn.o_proj": (h, q), "mlp.gate_proj": (f, h), "mlp.up_proj": (f, h), "mlp.down_proj": (h, f)}
        own |= {"input_layernorm": (h,), "post_attention_layernorm": (h,)}
        if config.family == "baichuan":
            own["self_attn.W_pack"] = (q + 2 * k, h)
        else:
            own |= {"self_attn.q_proj": (q, h), "self_attn.k_proj": (k, h), "self_attn.v_proj": (k, h)}
        shapes |= {f"model.layers.{i}.{name}.weight": shape for name, shape in own.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def by_loops(config, t, ids):
    """Logits of one text, written with loops over the published tensors."""

    def norm(x, w):
        return x / np.sqrt(np.mean(x**2, -1, keepdims=True) + config.norm_eps) * w

    def turn(x):
        out = np.empty_like(x)
        for position in range(len(x)):
            for i in range(2):
                angle = position * 10_000.0 ** (-2 * i / 4)
                a, b = x[position, :, i], x[position, :, i + 2]
                out[position, :, i] = a * np.cos(angle) - b * np.sin(angle)
                out[position, :, i + 2] = b * np.cos(angle) + a * np.sin(angle)
        return out

    x = t["model.embed_tokens.weight"][ids]
    for i in range(config.num_layers):
        w = {k.removeprefix(f"model.layers.{i}.").removesuffix(".weight"): v for k, v in t.items()}
        y = norm(x, w["input_layernorm"])
        if "self_attn.W_pack" in w:
            q, k, v = np.split(y @ w["self_attn.W_pack"].T, 3, axis=-1)
        else:
            q, k, v = (y @ w[f"self_attn.{n}_proj"].T for n in "qkv")
        q, k, v = (z.reshape(len(ids), -1, 4) for z in (q, k, v))
        q, k = turn(q), turn(k)
        mixed = np.zeros_like(q)
        for head in range(6):
            key = head * config.num_kv_heads // 6
            for now in range(len(ids)):
                scores = q[now, head] @ k[: now + 1, key].T / 2
                weights = np.exp(scores - scores.max())
                mixed[now, head] = weights / weights.sum() @ v[: now + 1, key]
        x = x + mixed.reshape(len(ids), -1) @ w["self_attn.o_proj"].T
        y = norm(x, w["post_attention_layernorm"])
        gate = y @ w["mlp.gate_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["mlp.up_proj"].T)) @ w["mlp.down_proj"].T
    head = t.get("lm_head.weight", t["model.embed_tokens.weight"])
    if config.norm_head:
        head = head / np.linalg.norm(head, axis=-1, keepdims=True)
    return norm(x, t["model.norm.weight"]) @ head.T


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("shard_bytes", [10**9, 2_000])
def test_published_tensors_give_the_logits_of_plain_loops_over_them(config, shard_bytes, tmp_path):
    tensors = tensors_of(config)
    save(tmp_path, config, iter(tensors.items()), shard_bytes=shard_bytes)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_bytes < 10**9)
    actual, variables = load_language_model(tmp_path)
    assert actual == config
    ids = np.array([3, 1, 4, 1, 5])
    logits, _ = LanguageModel(config).apply(jax.tree.map(jnp.asarray, variables), jnp.asarray(ids[None]))
    np.testing.assert_allclose(logits[0], by_loops(config, tensors, ids), rtol=2e-4, atol=2e-4)
    back = dict(language_model_tensors(config, variables))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor, err_msg=name)


# PyTorch archives, written here as torch writes them.


def fake_torch(monkeypatch):
    """Modules with the names that torch's pickles refer to; their functions are never called in these tests."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    names = {np.dtype(np.float32): "FloatStorage", np.dtype(ml_dtypes.bfloat16): "BFloat16Storage"}
    for name in names.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError("torch's own function was called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch, utils, names


def write_archive(path, tensors, torch, utils, names, extra=None):
    class Reference:
        def __init__(self, key, array, transposed):
            self.key, self.array, self.transposed = key, array, transposed

        def __reduce__(self):
            shape, strides = self.array.shape, np.cumprod([1, *self.array.shape[:0:-1]])[::-1]
            if self.transposed:
                strides = np.cumprod([1, *self.array.shape[:-1]])
            return utils._rebuild_tensor_v2, (
                Stored(self.key, self.array), 0, shape, tuple(int(s) for s in strides), False, collections.OrderedDict()
            )  # fmt: skip

    class Stored:
        def __init__(self, key, array):
            self.key, self.array = key, array

    class Writer(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Stored):
                return ("storage", getattr(torch, names[obj.array.dtype]), obj.key, "cpu", obj.array.size)
            return None

    listed, buffer = collections.OrderedDict(), io.BytesIO()
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, array) in enumerate(tensors.items()):
            transposed = number % 2 == 1 and array.ndim == 2
            listed[name] = Reference(str(number), array, transposed)
            raw = np.ascontiguousarray(array.T if transposed else array).tobytes()
            archive.writestr(f"pytorch_model/data/{number}", raw)
        listed.update(extra or {})
        Writer(buffer, protocol=2).dump(listed)
        archive.writestr("pytorch_model/data.pkl", buffer.getvalue())


def test_pytorch_shards_are_read_without_torch_and_without_calling_it(tmp_path, monkeypatch):
    torch = fake_torch(monkeypatch)
    tensors = tensors_of(SHARED)
    tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(ml_dtypes.bfloat16)
    half = dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2])
    for number, part in enumerate(half):
        write_archive(tmp_path / f"part{number}.bin", part, *torch)
    weight_map = {name: f"part{number}.bin" for number, part in enumerate(half) for name in part}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, "torch._utils")
    weights = Weights(tmp_path)
    for part in half:
        for name, tensor in part.items():
            actual = weights.read(name, tensor.shape)
            assert actual.dtype == tensor.dtype
            np.testing.assert_array_equal(actual, tensor, err_msg=name)


class Malicious:
    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return (open, (str(self.trap), "w"))


@pytest.mark.parametrize("kind", ["call", "state"])
def test_a_pickle_that_calls_a_function_is_refused_and_nothing_is_called(kind, tmp_path, monkeypatch):
    torch = fake_torch(monkeypatch)
    trap = tmp_path / "trap"
    evil = Malicious(trap) if kind == "call" else collections.Counter(a=1)
    write_archive(tmp_path / "pytorch_model.bin", tensors_of(SHARED), *torch, extra={"evil": evil})
    with pytest.raises(UnsafeFileError, match=r"pytorch_model.bin refers to (_?io.open|builtins|collections.Counter)"):
        Weights(tmp_path)
    assert not trap.exists()


NAMES = [f"{module}\n{name}".encode() for module, name in ALLOWED] + [b"torch\nFloatStorage"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("attribute", [b"__defaults__", b"__class__", b"__call__", b"__doc__"])
@pytest.mark.parametrize("kind", ["slots", "dictionary"])
def test_a_pickle_cannot_change_what_it_is_handed(name, attribute, kind, tmp_path):
    """The opcode BUILD sets attributes, here one of a name that is allowed, to a tuple."""
    state = b"}U" + bytes([len(attribute)]) + attribute + b"K\x01\x85s"
    output = b"\x80\x02c" + name + b"\n" + (b"N" + state + b"\x86" if kind == "slots" else state) + b"b."
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr("pytorch_model/data.pkl", output)
    with pytest.raises(ValueError, match=r"pytorch_model.bin (sets|has a damaged list of tensors)"):
        PytorchFile(tmp_path / "pytorch_model.bin")


def test_a_tensor_cannot_exceed_its_storage_or_the_limit(tmp_path, monkeypatch):
    path, array = tmp_path / "pytorch_model.bin", np.arange(6, dtype=np.float32)
    write_archive(path, {"a": array}, *fake_torch(monkeypatch))
    file = PytorchFile(path)
    whole = file.tensors["a"]
    file.tensors["a"] = whole._replace(shape=(2**50, 6), strides=(0, 1))
    with pytest.raises(ValueError, match=f"a needs {6 * 2**50} numbers, its storage has 6"):
        file.read("a")
    file.tensors["a"] = whole._replace(shape=(1, 6), strides=(2**57, 1))  # a step that is never made
    np.testing.assert_array_equal(file.read("a"), array[None])
    rebuild = ALLOWED["torch._utils", "_rebuild_tensor_v2"]
    for shape, strides in (((0, 2**62), (1, 1)), ((6,), (2**62,)), ((6,), (-1,)), ((6,), (1, 1)), ((1,) * 99,) * 2):
        with pytest.raises(UnsafeFileError, match="has a tensor of shape"):
            rebuild(whole.storage, 0, shape, strides)
    monkeypatch.setattr(PytorchFile, "read", None)
    with pytest.raises(ValueError, match=r"a must have shape \(7,\), got \(6,\)"):
        Weights(tmp_path).read("a", (7,))


def test_damaged_files_and_missing_pieces_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no weights"):
        Weights(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        load_language_model(tmp_path)
    tensors = tensors_of(SHARED)
    save(tmp_path, SHARED, iter(tensors.items()), shard_bytes=2_000)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=shard.name):
        load_language_model(tmp_path)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=shard.name):
        load_language_model(tmp_path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save(tmp_path / "incomplete", SHARED, iter(tensors.items()))
    with pytest.raises(KeyError, match=r"model.layers.1.mlp.up_proj.weight"):
        load_language_model(tmp_path / "incomplete")
    save(tmp_path / "other", dataclasses.replace(SHARED, intermediate_size=21), iter(tensors_of(SHARED).items()))
    with pytest.raises(ValueError, match=r"gate_proj.weight must have shape \(21, 24\), got \(20, 24\)"):
        load_language_model(tmp_path / "other")


def test_truncated_and_foreign_archives_are_named(tmp_path, monkeypatch):
    torch = fake_torch(monkeypatch)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"pytorch_model.bin is not a PyTorch archive"):
        PytorchFile(path)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_archive(path, {"a": array}, *torch)
    with zipfile.ZipFile(path) as archive:
        listed = archive.read("pytorch_model/data.pkl")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pytorch_model/data.pkl", listed)
        archive.writestr("pytorch_model/data/0", array.tobytes()[:-4])
    with pytest.raises(ValueError, match="a needs 6 numbers, its storage has 5"):
        PytorchFile(path).read("a")
