"""HTML pages about the contents of a label store and the quality of its labels."""

from alps.report.counts.statistics import compute_statistics
from alps.report.pages.choose_k import write_choose_k
from alps.report.pages.evaluation import write_evaluation
from alps.report.pages.instances import write_instances
from alps.report.pages.statistics import write_statistics
from alps.report.pages.store import write_report

__all__ = [
    "compute_statistics",
    "write_choose_k",
    "write_evaluation",
    "write_instances",
    "write_report",
    "write_statistics",
]
