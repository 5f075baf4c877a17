//! The BFT engine and its network behind one trait.
