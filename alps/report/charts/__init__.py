"""Charts of the reports, as numbers, SVG and PNG."""
