"""MonitorIQ: monitoring of services: checks, measurements, rules and alerts."""
