"""How the networks are trained: schedules and optimisers in pure Keras; strategies and the loop in TensorFlow."""
