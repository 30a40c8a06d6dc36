"""Search spaces: parameters, priors, and the map to the unit cube."""
