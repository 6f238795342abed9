"""Safe RLHF, BeaverTails and Baichuan 2: reserved for the language-model part; nothing is public yet."""
