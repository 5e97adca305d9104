//! What can end the program, and the exit code the contract gives it.

use std::net::SocketAddr;
use std::process::ExitCode;

/// An error that ends `lensline`, with the exit code of the contract (`interface.md`).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration or the arguments do not make sense. Exit 2.
    #[error("{0}")]
    Config(String),
    /// No camera is there to stream from. Exit 3.
    #[error("{0}")]
    NoCamera(String),
    /// Somebody else listens on an address of ours. Exit 4.
    #[error(
        "cannot listen on {address} ({what}): {reason}; stop the other program, or choose another address with {option}"
    )]
    AddressInUse {
        /// What wanted to listen there: "HTTP" or "RTSP".
        what: &'static str,
        /// The address that is taken.
        address: SocketAddr,
        /// What the system said.
        reason: std::io::Error,
        /// The option that chooses another address.
        option: &'static str,
    },
    /// A GStreamer element is missing. Exit 5.
    #[error("GStreamer has no element `{element}`; install it: apt-get install {package}")]
    MissingElement {
        /// The factory name of the element.
        element: String,
        /// The Debian package that carries it.
        package: &'static str,
    },
    /// Something in here went wrong; a restart mends it. Exit 6.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// The exit code of the contract.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) => 2,
            Self::NoCamera(_) => 3,
            Self::AddressInUse { .. } => 4,
            Self::MissingElement { .. } => 5,
            Self::Internal(_) => 6,
        })
    }
}
