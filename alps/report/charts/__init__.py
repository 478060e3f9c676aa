"""Charts of a report, as numbers, SVG and PNG."""
