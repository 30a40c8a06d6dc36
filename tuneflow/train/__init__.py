"""Training: what is trained (Job), and how (Trainer)."""
