//! Adaptation: feature cache, loss, optimiser, trainer and acceptance. It must not know the command line.
