"""Models that others have trained, in our own backbone: their settings, weights, tokenizers and framing."""
