"""Networks: perceptrons and the encoders placed before them."""
