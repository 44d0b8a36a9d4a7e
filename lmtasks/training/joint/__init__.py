"""Joint training of several tasks: the weights of their losses, and the combination of conflicting gradients."""
