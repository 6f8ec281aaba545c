"""Readers of everything that posed photographs come as; each is a scene source.

Scenes are read lazily: cameras when a scene is asked for, pictures when one of them is. Distorted
pictures are undistorted on reading, and cameras are always those of the picture that is handed
out.
"""
