"""The history of a study: trials, their reports, and what is derived from them."""
