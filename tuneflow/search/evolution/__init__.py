"""Evolutionary searchers: CMA-ES, NSGA-II, regularized evolution."""
