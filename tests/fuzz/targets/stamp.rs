//! The stamp: reading one out of any plane, and burning one into it that then reads the same.
#![no_main]

use lensline::camera::simulated::stamp::{burn, height, read, side};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, u16, u64, u16, Vec<u8>)| {
    let (stride, width, unix_ms, number, mut luma) = input;
    let (stride, width) = (usize::from(stride), usize::from(width));
    let _ = read(&luma, stride, width);
    let unix_ms = unix_ms >> 16;
    burn(&mut luma, stride, width, unix_ms, number);
    let fits = stride >= 64 * side(width) && luma.len() >= stride * height(width);
    if fits {
        assert_eq!(read(&luma, stride, width), Some((unix_ms, number)));
    }
});
