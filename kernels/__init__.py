"""The selective scan, in one and in two dimensions, behind one dispatching function."""
