"""The pages of a report, from templates."""
