"""Many trials as one program, in this process."""
