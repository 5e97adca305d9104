//! One encoded picture on its way from the camera to everybody who watches.

#[cfg(test)]
pub mod testing;

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::packets::Packets;

/// One H.264 access unit: byte-stream, access-unit aligned, SPS and PPS in front of every IDR.
///
/// Cloning is a reference count: the payload was copied once, out of the encoder's buffer pool,
/// when the tap took it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When the picture was taken, as near to the sensor as the source allows. Never goes back
    /// within a rendition, also not across a restart of its camera.
    pub captured: Timestamp,
    /// When the tap saw the encoded picture.
    pub encoded: Timestamp,
    /// Whether it is an IDR, on which a decoder can start.
    pub key: bool,
    /// The access unit. Its PTS is `captured`, it has no DTS, and DELTA_UNIT is set unless `key`.
    pub payload: gst::Buffer,
    packets: Packets,
}

impl Frame {
    /// A frame that nobody has made packets of yet.
    pub fn new(captured: Timestamp, encoded: Timestamp, key: bool, payload: gst::Buffer) -> Self {
        Self { captured, encoded, key, payload, packets: Packets::default() }
    }

    /// Size of the access unit in bytes.
    pub fn size_bytes(&self) -> usize {
        self.payload.size()
    }

    /// The access unit as RTP payloads; made by the first viewer who asks, shared by the others.
    pub fn packets(&self) -> &[Arc<[u8]>] {
        self.packets.get_or_make(|| self.payload.map_readable().ok())
    }
}
