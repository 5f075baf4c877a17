//! Test doubles and synthetic patients, for development only.
