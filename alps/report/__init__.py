"""The page a person opens first: what a label store holds, in pictures and figures."""

from alps.report.page import write_report

__all__ = ["write_report"]
