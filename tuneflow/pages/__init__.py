"""Pages: a study's report as one HTML file."""
