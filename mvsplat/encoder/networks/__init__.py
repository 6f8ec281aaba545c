"""The networks that encoders are built from."""
