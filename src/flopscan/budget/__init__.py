"""Budgets: what a model cost when it was locked, what it may cost, and whether it still does."""
