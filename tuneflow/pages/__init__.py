"""Pages: a study's report as one HTML file, and the line or display that follows a run."""
