//! The use cases: one public function is one thing a person can do.
