"""What local workers and Ray actors share."""
