"""The paper's experiment, over several seeds."""
