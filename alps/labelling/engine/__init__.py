"""Engines that distribute labelling: local processes or a Ray cluster."""
