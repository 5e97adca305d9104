//! FRAMES OUT: from the distributor to everybody who watches.
//!
//! [`session`] knows who watches; [`feed`] takes frames from a subscriber to an appsrc; [`tally`]
//! counts them; [`webrtc`] and [`rtsp`] are the two ways out. Knows nothing of cameras.

pub mod feed;
pub mod rtsp;
pub mod session;
pub mod tally;
pub mod webrtc;
