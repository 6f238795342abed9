"""Decoder-only language models: Llama 1 to 3 and Baichuan 2."""

from rlhf.models.architecture import PUBLISHED, ModelConfig, RopeScaling, from_hf, parameter_count, to_hf
from rlhf.models.decoder import Cache, Decoder, empty_cache
from rlhf.models.heads import LanguageModel, ScoreModel, Scores, last_token

__all__ = [
    "PUBLISHED", "Cache", "Decoder", "LanguageModel", "ModelConfig", "RopeScaling", "ScoreModel", "Scores",
    "empty_cache", "from_hf", "last_token", "parameter_count", "to_hf",
]  # fmt: skip
