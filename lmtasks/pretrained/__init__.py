"""Pretrained models in our own backbone: their settings, weights, tokenizers and framing."""
