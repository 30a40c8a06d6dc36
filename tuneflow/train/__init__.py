"""Training: a job from one state to the next, by a Trainer, a loop or a function of your own."""
