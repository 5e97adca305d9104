//! TLS for the doors: a certificate from files, taken anew when they change.
//!
//! An [`Identity`] is one door's certificate and key. Each handshake takes what is current then, so
//! a change reaches newcomers and disturbs nobody who is in. What is in the files, and what is wrong
//! with them, is `material`'s matter; `lensline check` asks the same code.
//!
//! TLS 1.2 with ECDHE and an AEAD cipher, and TLS 1.3: rustls has nothing else.

mod identity;
mod material;

#[cfg(test)]
mod tests;

pub use identity::{HANDSHAKE_TIMEOUT, Identity, Unmet, watch};
pub use material::{Files, Flaw, Part, Remark, inspect};
