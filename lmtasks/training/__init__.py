"""What happens around training: checkpoints, averages of weights, signals, progress."""
