//! Time and frame number in letters, for people.

use std::fmt::Write;

use font8x8::UnicodeFonts;

const INK: u8 = 235;
const PAPER: u8 = 32;
const GLYPH: usize = 8;

/// The text of one picture: time of day in UTC, and frame number.
pub(super) fn caption(unix_ms: u64, number: u64) -> String {
    let (seconds, milliseconds) = (unix_ms / 1_000 % 86_400, unix_ms % 1_000);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let mut text = String::with_capacity(40);
    // Writing to a String does not fail.
    let _ = write!(text, "{hours:02}:{minutes:02}:{seconds:02}.{milliseconds:03} UTC  #{number}");
    text
}

/// Side of a letter in pixels, in a picture `width` pixels wide.
pub(super) const fn letter(width: usize) -> usize {
    GLYPH * if width < 960 { 1 } else { width / 640 }
}

/// Draws `text` into a luma plane, with its upper left at (`left`, `top`). What does not fit is
/// left out.
pub(super) fn draw(
    luma: &mut [u8],
    stride: usize,
    width: usize,
    (left, top): (usize, usize),
    text: &str,
) {
    let scale = letter(width) / GLYPH;
    for (index, character) in text.chars().enumerate() {
        let glyph = font8x8::BASIC_FONTS.get(character).unwrap_or([0; GLYPH]);
        let x = left + index * GLYPH * scale;
        if x + GLYPH * scale > width {
            return;
        }
        for (row, bits) in glyph.into_iter().enumerate() {
            for line in 0..scale {
                let start = (top + row * scale + line) * stride + x;
                if let Some(pixels) = luma.get_mut(start..start + GLYPH * scale) {
                    draw_row(pixels, bits, scale);
                }
            }
        }
    }
}

/// One row of one letter; the lowest bit is the leftmost pixel.
fn draw_row(pixels: &mut [u8], bits: u8, scale: usize) {
    for (column, pixel) in pixels.chunks_mut(scale).enumerate() {
        pixel.fill(if bits >> column & 1 == 1 { INK } else { PAPER });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caption_tells_the_time_of_day_and_the_number() {
        assert_eq!(caption(86_400_000 * 3 + 45_296_789, 70_000), "12:34:56.789 UTC  #70000");
    }

    #[test]
    fn letters_are_drawn_upright_and_cut_at_the_edge() {
        let mut luma = vec![0; 20 * 8];
        draw(&mut luma, 20, 20, (0, 0), "LLL");
        let row = |y: usize| luma[y * 20..y * 20 + 8].iter().filter(|&&p| p == INK).count();
        assert!(row(6) > row(1), "an L is broader at its foot");
        assert!(luma.iter().enumerate().all(|(i, &p)| i % 20 < 16 || p == 0), "a third is cut");
    }
}
