"""Files of weights: written whole or not at all, read without running anything from them."""
