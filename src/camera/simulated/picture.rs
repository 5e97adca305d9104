//! The picture before the stamp: a pure function of seed and frame number, and cheap.
//!
//! Everything costly happens once: the background is painted into textures larger than the
//! picture. A picture is then a copy of rows out of them, moved a little from frame to frame, with
//! a few shapes on top. Noise costs nothing more: there are several textures, each with a noise of
//! its own, and every row comes from one chosen anew in every frame.

use super::Random;
use crate::config::{Pattern, Simulated};

/// How far the background of the scene travels, in pixels.
const PAN_X: usize = 256;
const PAN_Y: usize = 128;

/// Textures to choose rows from where there is noise.
const NOISES: usize = 4;

/// The strongest noise, as a deviation in luma.
const NOISE_LUMA: f64 = 64.0;

const SHAPES: usize = 7;
const LUMA_MIN: i32 = 16;
const LUMA_MAX: i32 = 235;

/// Planes of an I420 picture to paint into, with their strides in bytes.
pub(super) struct Planes<'a> {
    pub luma: &'a mut [u8],
    pub luma_stride: usize,
    pub chroma: [&'a mut [u8]; 2],
    pub chroma_stride: usize,
}

/// The picture of one camera, at every frame number.
#[derive(Debug)]
pub(super) struct Picture {
    width: usize,
    height: usize,
    seed: u64,
    pans: bool,
    luma: Vec<Plane>,
    chroma: [Plane; 2],
    shapes: Vec<Shape>,
}

#[derive(Debug)]
struct Plane {
    stride: usize,
    pixels: Vec<u8>,
}

/// A disc that travels to and fro.
#[derive(Debug)]
struct Shape {
    radius: usize,
    color: [u8; 3],
    speed: (u64, u64),
    phase: (u64, u64),
}

impl Picture {
    /// Paints the textures for pictures of `width` by `height` pixels.
    pub(super) fn new(config: &Simulated, width: usize, height: usize) -> Self {
        let mut random = Random::new(config.seed);
        let pans = config.pattern == Pattern::Scene;
        let (pan_x, pan_y) = if pans { (PAN_X, PAN_Y) } else { (0, 0) };
        let (full_width, full_height) = (width + pan_x, height + pan_y);
        let (luma, chroma) = match config.pattern {
            Pattern::Scene => scene(full_width, full_height, &mut random),
            Pattern::Bars => bars(full_width, full_height),
            Pattern::Solid => (
                Plane::new(full_width, full_height, |_, _| 126),
                [128; 2].map(|value| chroma_plane(full_width, full_height, |_, _| value)),
            ),
        };
        let shapes = if pans { shapes(height, &mut random) } else { Vec::new() };
        let luma = with_noise(luma, config.noise, &mut random);
        Self { width, height, seed: config.seed, pans, luma, chroma, shapes }
    }

    /// Paints picture `number`.
    pub(super) fn render(&self, number: u64, planes: &mut Planes<'_>) {
        let (x, y) = if self.pans { pan(number) } else { (0, 0) };
        self.copy_luma(number, (x, y), planes);
        let (width, height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        for (plane, target) in self.chroma.iter().zip(&mut planes.chroma) {
            let rows = target.chunks_mut(planes.chroma_stride.max(1)).take(height);
            for (row, line) in rows.enumerate() {
                copy(line, plane.row(y / 2 + row, x / 2, width));
            }
        }
        for shape in &self.shapes {
            shape.draw(number, (self.width, self.height), planes);
        }
    }

    fn copy_luma(&self, number: u64, (x, y): (usize, usize), planes: &mut Planes<'_>) {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let rows = planes.luma.chunks_mut(planes.luma_stride.max(1)).take(self.height);
        for (row, line) in rows.enumerate() {
            let choice = usize::from(random.byte()) % self.luma.len().max(1);
            if let Some(plane) = self.luma.get(choice) {
                copy(line, plane.row(y + row, x, self.width));
            }
        }
    }
}

impl Plane {
    fn new(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Self {
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            pixels.extend((0..width).map(|x| pixel(x, y)));
        }
        Self { stride: width, pixels }
    }

    fn row(&self, y: usize, x: usize, width: usize) -> &[u8] {
        let start = y * self.stride + x;
        self.pixels.get(start..start + width).unwrap_or_default()
    }
}

impl Shape {
    fn draw(&self, number: u64, (width, height): (usize, usize), planes: &mut Planes<'_>) {
        let along = |speed: u64, phase: u64, span: usize| {
            self.radius + triangle(number * speed + phase, span.saturating_sub(2 * self.radius))
        };
        let (x, y) =
            (along(self.speed.0, self.phase.0, width), along(self.speed.1, self.phase.1, height));
        disc(planes.luma, planes.luma_stride, (x, y), self.radius, (width, height), self.color[0]);
        let half = (width.div_ceil(2), height.div_ceil(2));
        for (plane, color) in planes.chroma.iter_mut().zip([self.color[1], self.color[2]]) {
            disc(plane, planes.chroma_stride, (x / 2, y / 2), self.radius / 2, half, color);
        }
    }
}

/// Fills a disc that may reach over the edge of the plane.
fn disc(
    plane: &mut [u8],
    stride: usize,
    (x, y): (usize, usize),
    radius: usize,
    (width, height): (usize, usize),
    value: u8,
) {
    for row in y.saturating_sub(radius)..(y + radius).min(height) {
        let dy = row.abs_diff(y);
        let half = (radius * radius).saturating_sub(dy * dy).isqrt();
        let (from, to) = (x.saturating_sub(half), (x + half).min(width));
        if let Some(span) = plane.get_mut(row * stride + from..row * stride + to.max(from)) {
            span.fill(value);
        }
    }
}

fn copy(line: &mut [u8], source: &[u8]) {
    if let Some(line) = line.get_mut(..source.len()) {
        line.copy_from_slice(source);
    }
}

/// Where the picture lies in the texture: even, so that chroma moves with luma.
fn pan(number: u64) -> (usize, usize) {
    (triangle(number, PAN_X / 2) * 2, triangle(number / 2, PAN_Y / 2) * 2)
}

/// A triangle wave: from 0 up to `span` and down again, one a step.
fn triangle(step: u64, span: usize) -> usize {
    let span = span.max(1) as u64;
    let at = step % (2 * span);
    usize::try_from(at.min(2 * span - at)).unwrap_or(0)
}

fn chroma_plane(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Plane {
    Plane::new(width.div_ceil(2), height.div_ceil(2), pixel)
}

/// Hills and gravel on a gradient: something of every scale, as a camera sees it.
fn scene(width: usize, height: usize, random: &mut Random) -> (Plane, [Plane; 2]) {
    let hills = Lattice::new(width, height, 64, random);
    let gravel = Lattice::new(width, height, 8, random);
    let luma = Plane::new(width, height, |x, y| {
        let gradient = 90 * (x + y) / (width + height).max(1);
        let detail = hills.at(x, y) / 3 + gravel.at(x, y) / 6;
        clamp_luma(20 + i32::try_from(gradient).unwrap_or(0) + detail)
    });
    let chroma = [(); 2].map(|()| {
        let tint = Lattice::new(width / 2 + 1, height / 2 + 1, 96, random);
        chroma_plane(width, height, |x, y| u8::try_from(96 + tint.at(x, y) / 4).unwrap_or(128))
    });
    (luma, chroma)
}

/// Eight bars of 75 %: white, yellow, cyan, green, magenta, red, blue, black (ITU-R BT.709).
fn bars(width: usize, height: usize) -> (Plane, [Plane; 2]) {
    const LUMA: [u8; 8] = [180, 168, 145, 133, 63, 51, 28, 16];
    const BLUE: [u8; 8] = [128, 44, 147, 63, 193, 109, 212, 128];
    const RED: [u8; 8] = [128, 136, 44, 52, 204, 212, 120, 128];
    let bar = |x: usize, width: usize| (x * 8 / width.max(1)).min(7);
    let half = width.div_ceil(2);
    let luma = Plane::new(width, height, |x, _| LUMA[bar(x, width)]);
    let chroma = [BLUE, RED].map(|values| chroma_plane(width, height, |x, _| values[bar(x, half)]));
    (luma, chroma)
}

/// The texture as it is, or several of it with a noise of their own.
fn with_noise(luma: Plane, noise: f64, random: &mut Random) -> Vec<Plane> {
    let amplitude = (noise.clamp(0.0, 1.0) * NOISE_LUMA).round() as i32;
    if amplitude == 0 {
        return vec![luma];
    }
    let noisy = |_| {
        let pixels = luma.pixels.iter().map(|&pixel| {
            let deviation = (i32::from(random.byte()) - 128) * amplitude / 128;
            clamp_luma(i32::from(pixel) + deviation)
        });
        Plane { stride: luma.stride, pixels: pixels.collect() }
    };
    (0..NOISES).map(noisy).collect()
}

fn shapes(height: usize, random: &mut Random) -> Vec<Shape> {
    let shape = |_| Shape {
        radius: height / 16 + usize::from(random.byte()) * height / 2048,
        color: [random.byte() / 2 + 80, random.byte() / 2 + 64, random.byte() / 2 + 64],
        speed: (u64::from(random.byte() % 5) + 1, u64::from(random.byte() % 4) + 1),
        phase: (u64::from(random.byte()) * 7, u64::from(random.byte()) * 5),
    };
    (0..SHAPES).map(shape).collect()
}

fn clamp_luma(value: i32) -> u8 {
    u8::try_from(value.clamp(LUMA_MIN, LUMA_MAX)).unwrap_or(u8::MAX)
}

/// Smooth noise: random values 0..=255 at the points of a lattice, and between them their mean
/// weighted by distance.
struct Lattice {
    cell: usize,
    columns: usize,
    values: Vec<u8>,
}

impl Lattice {
    fn new(width: usize, height: usize, cell: usize, random: &mut Random) -> Self {
        let (columns, rows) = (width / cell + 2, height / cell + 2);
        let values = (0..columns * rows).map(|_| random.byte()).collect();
        Self { cell, columns, values }
    }

    fn at(&self, x: usize, y: usize) -> i32 {
        let (column, row) = (x / self.cell, y / self.cell);
        let (right, down) = (x % self.cell, y % self.cell);
        let (left, up) = (self.cell - right, self.cell - down);
        let value = |column: usize, row: usize| {
            self.values.get(row * self.columns + column).map_or(0, |&value| usize::from(value))
        };
        let upper = value(column, row) * left + value(column + 1, row) * right;
        let lower = value(column, row + 1) * left + value(column + 1, row + 1) * right;
        let mean = (upper * up + lower * down) / (self.cell * self.cell);
        i32::try_from(mean).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 320;
    const HEIGHT: usize = 240;

    fn paint(picture: &Picture, number: u64) -> Vec<u8> {
        let (luma, chroma) = (WIDTH * HEIGHT, WIDTH * HEIGHT / 4);
        let mut bytes = vec![0; luma + 2 * chroma];
        let (y, uv) = bytes.split_at_mut(luma);
        let (u, v) = uv.split_at_mut(chroma);
        let mut planes =
            Planes { luma: y, luma_stride: WIDTH, chroma: [u, v], chroma_stride: WIDTH / 2 };
        picture.render(number, &mut planes);
        bytes
    }

    fn picture(pattern: Pattern, noise: f64, seed: u64) -> Picture {
        Picture::new(&Simulated { pattern, noise, seed, faults: Vec::new() }, WIDTH, HEIGHT)
    }

    #[test]
    fn the_same_seed_and_number_give_the_same_picture() {
        let one = picture(Pattern::Scene, 0.3, 7);
        let other = picture(Pattern::Scene, 0.3, 7);
        assert_eq!(paint(&one, 100), paint(&other, 100));
        assert_ne!(paint(&one, 100), paint(&one, 101));
        assert_ne!(paint(&one, 100), paint(&picture(Pattern::Scene, 0.3, 8), 100));
    }

    #[test]
    fn every_pixel_is_painted_anew_whatever_the_buffer_held() {
        for pattern in [Pattern::Scene, Pattern::Bars, Pattern::Solid] {
            let picture = picture(pattern, 0.1, 1);
            for number in [0, 1, 77, 1_000_003] {
                assert!(paint(&picture, number).iter().all(|&pixel| pixel >= 16), "{pattern:?}");
            }
        }
    }

    #[test]
    fn bars_and_solid_stand_still_and_noise_moves() {
        assert_eq!(
            paint(&picture(Pattern::Bars, 0.0, 1), 5),
            paint(&picture(Pattern::Bars, 0.0, 2), 900)
        );
        let still = picture(Pattern::Solid, 0.2, 1);
        assert_ne!(paint(&still, 5), paint(&still, 6));
    }
}
