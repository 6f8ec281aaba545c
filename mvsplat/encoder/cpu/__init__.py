"""The networks' operations, arranged to run fast on CPUs; elsewhere the ordinary ones."""
