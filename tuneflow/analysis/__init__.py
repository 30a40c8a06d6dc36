"""Facts computed from the record of a study: for tables, plots, pages and advice."""
