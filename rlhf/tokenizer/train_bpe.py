"""A tokenizer learned from texts, for models that begin from nothing: byte-level byte-pair encoding.

Source: Sennrich et al. 2016 (arXiv 1508.07909), on bytes as in GPT-2, so that no text is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rlhf.tokenizer.tokenizer import FAST, Tokenizer, load_tokenizer

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def learn_tokenizer(texts: Iterable[str], size: int, folder: Path) -> Tokenizer:
    """Learn a vocabulary and write it in Hugging Face's layout.

    Args:
        texts: to learn from; the order does not matter.
        size: largest number of tokens, the 256 bytes and three special ones among them.
        folder: where `tokenizer.json` and `tokenizer_config.json` go; made if it does not exist.

    Raises:
        ValueError: `size` has no room for the bytes.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if size < 259:
        raise ValueError(f"a vocabulary needs at least 259 tokens (256 bytes and 3 special ones), got {size}")
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / FAST))
    special = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    (folder / "tokenizer_config.json").write_text(json.dumps(special, indent=1))
    return load_tokenizer(folder)
