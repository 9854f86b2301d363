"""Where the original OpalSuite kept its database."""
