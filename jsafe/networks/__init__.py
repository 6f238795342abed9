"""Networks: perceptrons, encoders of observations, and the policies and value functions made of them."""
