"""Steps of optimisation on the CPU: kernels for the loss and for Adam, and what runs them."""
