"""Experiments of several steps: declaration, cache and runner.

steps = [
    Step.from_words("sft", ("rlhf", "sft"), ["--model", "tiny", "--data", "sft.jsonl"]),
    Step.from_words("reward", ("rlhf", "reward"), ["--model", "@sft", "--data", "pairs.jsonl"]),
]
results = runner.run_steps(steps, Path("runs/mine"), jobs=2)
"""
