"""The pages a person opens: what a label store holds, and how good it is."""

from alps.report.census import take_census
from alps.report.choose_k import write_choose_k
from alps.report.evaluation import write_evaluation
from alps.report.instances import write_instances
from alps.report.page import write_report
from alps.report.statistics import write_statistics

__all__ = [
    "take_census",
    "write_choose_k",
    "write_evaluation",
    "write_instances",
    "write_report",
    "write_statistics",
]
