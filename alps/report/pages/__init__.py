"""The HTML pages of the reports, rendered from templates."""
