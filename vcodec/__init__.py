"""vcodec: a learned video codec built from visual state space blocks."""
