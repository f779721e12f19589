"""TDX: what a quote says, who vouches for it, and whether an entry of reference values accepts it."""
