//! The chain from the outside: transactions in, blocks and answers out.

mod accounts;
mod blocks;
mod check;
mod passkey;
mod pool;
mod solidity;
mod support;
