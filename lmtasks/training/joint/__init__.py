"""Joint training of several tasks: how much the loss of each counts, and what is done with gradients that conflict."""
