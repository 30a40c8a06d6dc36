"""LeCun's room: pure functions of modules, losses and batches."""
