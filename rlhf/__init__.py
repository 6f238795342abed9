"""Safe RLHF, BeaverTails and Baichuan 2: language models, data, and training from SFT to PPO-Lag, as functions."""
