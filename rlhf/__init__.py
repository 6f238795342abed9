"""Safe RLHF, BeaverTails and Baichuan 2: language models, their weights and losses. Training is not here yet."""
