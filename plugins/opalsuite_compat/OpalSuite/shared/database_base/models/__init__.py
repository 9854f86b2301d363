"""Where the original OpalSuite kept its shared models."""
