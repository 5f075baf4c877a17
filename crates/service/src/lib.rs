//! The use cases: one public function is one thing a person can do. Knows no HTTP, HTML, SQL text or EVM.

pub mod ports;
