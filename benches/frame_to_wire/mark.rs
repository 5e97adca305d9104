//! The time that a frame carries in its last bytes.
//!
//! Nanoseconds since the Unix epoch, the lower 56 bits, seven to a byte: no byte is zero, so that
//! none of them is part of a start code, and none is taken for the padding after a NAL unit.

use std::time::Duration;

/// Bytes of a mark.
pub const BYTES: usize = 8;

const BITS: u32 = 7 * BYTES as u32;
const MASK: u64 = (1 << BITS) - 1;

/// The mark of this time since the Unix epoch.
pub fn write(unix: Duration) -> [u8; BYTES] {
    let nanoseconds = low_bits(unix);
    std::array::from_fn(|index| 0x80 | (nanoseconds >> (7 * index)) as u8)
}

/// How long before `unix` the mark at the end of `bytes` was written; zero where it was after it.
/// `None` where there is none.
pub fn age(bytes: &[u8], unix: Duration) -> Option<Duration> {
    let mark = bytes.last_chunk::<BYTES>()?;
    if mark.iter().any(|byte| byte & 0x80 == 0) {
        return None;
    }
    let marked = mark.iter().rev().fold(0, |bits, byte| bits << 7 | u64::from(byte & 0x7f));
    let age = low_bits(unix).wrapping_sub(marked) & MASK;
    // The upper half of the range are times that have not come yet.
    let is_later = age >> (BITS - 1) == 1;
    Some(Duration::from_nanos(if is_later { 0 } else { age }))
}

fn low_bits(unix: Duration) -> u64 {
    unix.as_nanos() as u64 & MASK
}
