"""Text of HTML and SVG, for pages and notebooks."""
