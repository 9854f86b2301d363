"""RegressionInsight: regression runs, their results, and failures grouped by what went wrong."""
