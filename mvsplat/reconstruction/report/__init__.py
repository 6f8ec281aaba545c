"""The report of a reconstruction: one page that needs no network."""
