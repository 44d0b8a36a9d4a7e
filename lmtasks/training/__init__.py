"""Training: the modules and the data module, optimisers, joint training of several tasks, callbacks."""
