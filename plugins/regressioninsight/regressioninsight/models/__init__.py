"""The tables of RegressionInsight: what is tested, what happened in a run, and why it failed."""

from regressioninsight.models.failures import FailureGroup, TriageState
from regressioninsight.models.runs import Outcome, RegressionResult, RegressionRun, RunStatus
from regressioninsight.models.suites import RegressionCase, RegressionSuite, suite_watchers
from regressioninsight.models.timings import RegressionBaseline, RegressionMetric

__all__ = [
    "FailureGroup",
    "Outcome",
    "RegressionBaseline",
    "RegressionCase",
    "RegressionMetric",
    "RegressionResult",
    "RegressionRun",
    "RegressionSuite",
    "RunStatus",
    "TriageState",
    "suite_watchers",
]
