"""Choosing the context and target views that a data set is evaluated on."""
