//! The stamp in the top-left corner of every simulated picture (`interface.md`): capture time and
//! frame number as squares that survive encoding, so that anyone can measure from shown pixels.
//!
//! Squares of side `width/160`, 64 in a row, most significant bit first, luma 235 for 1 and 16
//! for 0. First row: 48 bits of milliseconds since the Unix epoch, then 16 bits of frame number.
//! Second row: the complement of the first.

const WHITE: u8 = 235;
const BLACK: u8 = 16;
const MIDDLE: usize = 126;
const BITS: usize = 64;
const ROWS: usize = 2;

/// The side of one square in pixels, in a picture `width` pixels wide.
pub const fn side(width: usize) -> usize {
    let side = width / 160;
    if side == 0 { 1 } else { side }
}

/// The height in pixels of the stamp's two rows.
pub const fn height(width: usize) -> usize {
    ROWS * side(width)
}

/// Burns the stamp into a luma plane of `stride` bytes a row and `width` pixels. Rows that the
/// plane does not have, and squares beyond its width, are left out.
pub fn burn(luma: &mut [u8], stride: usize, width: usize, unix_ms: u64, number: u16) {
    let side = side(width);
    let word = (unix_ms << 16) | u64::from(number);
    for (row, word) in [word, !word].into_iter().enumerate() {
        for line in luma.chunks_mut(stride.max(1)).skip(row * side).take(side) {
            for bit in 0..BITS {
                let value = if word >> (BITS - 1 - bit) & 1 == 1 { WHITE } else { BLACK };
                if let Some(square) = line.get_mut(bit * side..(bit + 1) * side) {
                    square.fill(value);
                }
            }
        }
    }
}

/// Reads the stamp from a luma plane: milliseconds since the Unix epoch, and frame number modulo
/// 65536. `None` where there is none, or the second row is not the complement of the first.
pub fn read(luma: &[u8], stride: usize, width: usize) -> Option<(u64, u16)> {
    let side = side(width);
    let mut words = [0u64; ROWS];
    for (row, word) in words.iter_mut().enumerate() {
        for bit in 0..BITS {
            let mean = mean_of_square(luma, stride, bit * side, row * side, side)?;
            *word = *word << 1 | u64::from(mean > MIDDLE);
        }
    }
    let [word, complement] = words;
    let number = u16::try_from(word & 0xffff).ok()?;
    (word == !complement).then_some((word >> 16, number))
}

/// The mean luma of a square, without its outermost pixels where it has inner ones: those are
/// what an encoder smears.
fn mean_of_square(luma: &[u8], stride: usize, x: usize, y: usize, side: usize) -> Option<usize> {
    let margin = side / 4;
    let inner = side - 2 * margin;
    let mut sum = 0;
    for row in y + margin..y + margin + inner {
        let start = row * stride + x + margin;
        sum +=
            luma.get(start..start + inner)?.iter().map(|&value| usize::from(value)).sum::<usize>();
    }
    Some(sum / (inner * inner))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_burned_is_read_at_any_size_and_stride(
            unix_ms in 0u64..1 << 48, number: u16, width in 160usize..2000, pad in 0usize..64,
        ) {
            let stride = width + pad;
            let mut luma = vec![77; stride * height(width)];
            burn(&mut luma, stride, width, unix_ms, number);
            prop_assert_eq!(read(&luma, stride, width), Some((unix_ms, number)));
        }

        #[test]
        fn reading_and_burning_never_panic(
            luma in prop::collection::vec(any::<u8>(), 0..3000), stride in 0usize..200, width in 0usize..200,
        ) {
            let mut luma = luma;
            let _ = read(&luma, stride, width);
            burn(&mut luma, stride, width, 1, 2);
        }
    }

    #[test]
    fn the_layout_is_the_contract_s() {
        let (width, stride) = (320, 320);
        let mut luma = vec![0; stride * 4];
        burn(&mut luma, stride, width, 0x8000_0000_0001, 0x8001);
        let bit = |row: usize, bit: usize| luma[row * 2 * stride + bit * 2];
        assert_eq!(
            [bit(0, 0), bit(0, 1), bit(0, 47), bit(0, 48), bit(0, 63)],
            [235, 16, 235, 235, 235]
        );
        assert_eq!(
            [bit(1, 0), bit(1, 1), bit(1, 47), bit(1, 48), bit(1, 63)],
            [16, 235, 16, 16, 16]
        );
    }

    #[test]
    fn a_damaged_stamp_is_not_believed() {
        let mut luma = vec![0; 320 * 4];
        burn(&mut luma, 320, 320, 1_700_000_000_000, 7);
        let flipped = WHITE + BLACK - luma[0];
        (0..2).for_each(|line| luma[line * 320..line * 320 + 2].fill(flipped));
        assert_eq!(read(&luma, 320, 320), None);
    }
}
