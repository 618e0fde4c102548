"""The exact part, standard library only: costs, conventions, traces, contracts, tallying numbers, ledgers."""
