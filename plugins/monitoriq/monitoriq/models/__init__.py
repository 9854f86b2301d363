"""The tables of MonitorIQ: what is watched, what was measured, and what was said about it."""

from monitoriq.models.alerts import AlertState, MonitorAlert, MonitorAlertNote, MonitorSilence
from monitoriq.models.checks import CheckKind, MonitorCheck, MonitoredService, MonitorMeasurement
from monitoriq.models.rules import MonitorRule, RuleSignal
from monitoriq.models.severities import MonitorSeverity

__all__ = [
    "AlertState",
    "CheckKind",
    "MonitorAlert",
    "MonitorAlertNote",
    "MonitorCheck",
    "MonitorMeasurement",
    "MonitorRule",
    "MonitorSeverity",
    "MonitorSilence",
    "MonitoredService",
    "RuleSignal",
]
