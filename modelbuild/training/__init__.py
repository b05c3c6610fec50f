"""How teacher and student are trained: losses, what is minimised, batches, the loop and its checkpoints."""
