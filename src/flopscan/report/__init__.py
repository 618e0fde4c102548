"""Reports: a ledger under a convention, and one file per format. Nothing here imports torch."""
