"""A scene as one HTML page that shows it, with the viewer in it."""
