"""Training of byte-level byte-pair encodings, for models from scratch.

Source: Sennrich et al. 2016 (arXiv 1508.07909), on bytes as in GPT-2, so that every text has tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rlhf.tokenizer.tokenizer import FAST, Tokenizer, load_tokenizer

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def learn_tokenizer(texts: Iterable[str], size: int, folder: Path) -> Tokenizer:
    """Train a tokenizer and write it in Hugging Face's layout.

    Args:
        texts: training texts; their order does not matter.
        size: maximum number of tokens, including the 256 bytes and three special ones.
        folder: folder of `tokenizer.json` and `tokenizer_config.json`, created if necessary.

    Raises:
        ValueError: `size` is too small for the bytes.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if size < 259:
        raise ValueError(f"a vocabulary needs at least 259 tokens (256 bytes and 3 special ones), got {size}")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / FAST))
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(special, indent=1), encoding="utf-8")
    return load_tokenizer(folder)
