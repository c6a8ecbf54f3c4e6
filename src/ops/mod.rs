//! Operators of both towers, each with its forward and its vector-Jacobian product side by side. They know
//! numbers and shapes, not models.
