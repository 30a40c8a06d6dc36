"""The runtime: device, precision, threads, and how many trials train at once."""
