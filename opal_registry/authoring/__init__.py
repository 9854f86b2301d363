"""Writing revisions: what the models of one sub-app have that its history has not."""
