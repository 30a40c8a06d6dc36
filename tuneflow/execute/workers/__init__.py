"""The parts that local worker processes and Ray actors share."""
