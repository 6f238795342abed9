"""`make parity-llm`: logits of small random Llamas, ours against those of transformers' own PyTorch model.

Needs torch, which jsafe does not: run it in an environment that has it. The models are drawn from a seed, so the
logits recorded in `tests/rlhf/models/recorded_logits.json` can be compared without torch, by
`tests/rlhf/models/test_transformers_parity.py`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from rlhf.checkpoints.weight_files import save
from rlhf.models.architecture import ModelConfig, RopeScaling

RECORDED = Path(__file__).parents[1] / "rlhf" / "models" / "recorded_logits.json"
TOLERANCE = 1e-4

BASE = ModelConfig(
    vocab_size=61, hidden_size=48, intermediate_size=80, num_layers=3, num_heads=6, num_kv_heads=6, head_dim=8
)
MODELS = {
    "llama": BASE,
    "llama with shared keys": dataclasses.replace(BASE, num_kv_heads=2, norm_eps=1e-5, rope_theta=500_000.0),
    "llama 3 with tied embeddings and stretched rotations": dataclasses.replace(
        BASE,
        num_kv_heads=2,
        tied=True,
        rope_theta=500_000.0,
        rope_scaling=RopeScaling(factor=8.0, original_length=16),
        max_length=128,
    ),
}
LENGTHS = (40, 23)
"""Of two texts; the second is padded on the right."""


def tensors(config: ModelConfig) -> dict[str, np.ndarray]:
    """Random tensors under their published names, large enough that every part matters."""
    rng = np.random.default_rng(0)
    hidden, inner, width = config.hidden_size, config.intermediate_size, config.head_dim
    queries, keys = config.num_heads * width, config.num_kv_heads * width
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for layer in range(config.num_layers):
        own = {"self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden)}
        own |= {"self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries)}
        own |= {"mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
        shapes |= {f"model.layers.{layer}.{name}.weight": shape for name, shape in own.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{norm}.weight"] = (hidden,)
    shapes["model.norm.weight"] = (hidden,)
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return {
        name: (rng.normal(size=shape) * (0.3 if len(shape) == 2 else 0.1) + (len(shape) == 1)).astype(np.float32)
        for name, shape in shapes.items()
    }


def texts(config: ModelConfig) -> tuple[np.ndarray, np.ndarray]:
    """Ids `[2, L]` and mask of two texts."""
    ids = np.random.default_rng(1).integers(0, config.vocab_size, (len(LENGTHS), max(LENGTHS)))
    mask = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    return np.where(mask, ids, 0), mask


def ours(folder: Path) -> np.ndarray:
    """Logits `[2, L, V]` of our model, read from a folder."""
    from rlhf.checkpoints.weight_files import load_language_model
    from rlhf.models.heads import LanguageModel

    config, variables = load_language_model(folder)
    ids, mask = texts(config)
    logits, _ = LanguageModel(config).apply(variables, ids, mask)
    return np.asarray(logits)


def theirs(folder: Path) -> np.ndarray:
    """Logits of transformers' model, read from the same folder."""
    import torch
    from transformers import LlamaForCausalLM

    model: Any = LlamaForCausalLM.from_pretrained(folder, attn_implementation="eager").to(torch.float32).eval()
    with torch.no_grad():
        ids, mask = texts(BASE)
        return model(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int))).logits.numpy()


def main() -> int:
    """Compare, and write the recording with `--record`."""
    parser = argparse.ArgumentParser(description="Logits of small random Llamas compared with those of transformers.")
    parser.add_argument("--record", action="store_true", help="write transformers' logits for the tests")
    args = parser.parse_args()
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"make parity-llm needs torch and transformers: {error}", file=sys.stderr)
        return 2
    recorded: dict[str, Any] = {"torch": torch.__version__, "transformers": transformers.__version__, "logits": {}}
    worst = 0.0
    for name, config in MODELS.items():
        with tempfile.TemporaryDirectory() as place:
            save(Path(place), config, iter(tensors(config).items()))
            reference = theirs(Path(place))
            mask = texts(config)[1]
            if not args.record:
                gap = float(np.max(np.abs(ours(Path(place)) - reference)[mask]))
                worst = max(worst, gap)
                print(f"{name}: largest difference {gap:.1e}, logits up to {np.abs(reference[mask]).max():.1f}")
            # Every fifth token and every seventh logit are enough to distinguish a wrong model from a right one.
            recorded["logits"][name] = np.round(reference[:, ::5, ::7].astype(float), 6).tolist()
    if args.record:
        RECORDED.write_text(json.dumps(recorded))
        print(f"written to {RECORDED}")
        return 0
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
