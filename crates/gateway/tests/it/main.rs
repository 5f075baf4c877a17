//! The fronts from outside.

mod rpc;
