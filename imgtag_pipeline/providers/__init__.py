"""The providers: one file per family."""
